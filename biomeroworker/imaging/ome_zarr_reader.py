"""Read an OME-Zarr image of versions 0.1 to 0.5, or one of its label images.

Metadata that break a rule of OME-NGFF are read as far as they make sense, and the rule is logged: the workflow that
wrote them may be years old, and its pixels are right.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.domain.units import LENGTHS
from biomeroworker.imaging.image_file import AXES, Axis, ImageFile, positive_length
from biomeroworker.imaging.zarr_array import open_array, read_json, read_pixels

log = logging.getLogger(__name__)


def open_ome_zarr(path: Path) -> ImageFile:
    """Open the array of full resolution of an image.

    Raises
    ------
    ValueError
        It is no OME-Zarr image, or its axes are not those of its array.
    OSError
        It cannot be read.
    """
    found = read_attributes(path)
    multiscale = _multiscale(found)
    _log_deviation(path, multiscale, str(found.get("version") or multiscale.get("version") or "0.4"))
    try:
        folder = path / _contained(str(multiscale["datasets"][0]["path"]))
        axes = _axes(multiscale)
        scale = _scale(multiscale, len(axes))
        channels = [str(one.get("label") or "") for one in (found.get("omero") or {}).get("channels") or []]
        units = {axis["name"]: axis.get("unit") for axis in axes}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"its metadata are wrong: {error!r}") from error
    array = open_array(folder)
    letters = _letters(axes, array.shape)
    sizes: dict[Axis, PhysicalSize] = {}
    for name in AXES:
        unit = units.get(name) or units.get(name.upper())
        value = positive_length(scale[letters.index(name.upper())]) if name.upper() in letters else 0.0
        if unit in LENGTHS and value:
            sizes[name] = PhysicalSize(value=value, unit=str(unit))
    return ImageFile(
        path,
        array.shape,
        array.dtype.newbyteorder("="),
        letters,
        lambda: read_pixels(array, folder),
        sizes,
        tuple(channels) if all(channels) else (),
    )


def read_attributes(folder: Path) -> dict[str, Any]:
    """The OME metadata of a group: ``attributes.ome`` of ``zarr.json`` (0.5), or ``.zattrs`` (before).

    The JSON files are read directly, because a missing ``.zgroup`` does no harm.
    """
    for name in ("zarr.json", ".zattrs"):
        content = read_json(folder / name)
        if content is not None:
            try:
                return dict((content.get("attributes") or {}).get("ome") or {} if name == "zarr.json" else content)
            except (AttributeError, TypeError, ValueError) as error:
                raise ValueError(f"{name} is wrong: {error}") from error
    raise ValueError(f"no Zarr metadata in {folder.name}: neither .zattrs nor zarr.json")


def _multiscale(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The first of the multiscales, which is the default if there are several (OME-NGFF 0.4 § multiscales)."""
    try:
        found = dict((attributes.get("multiscales") or [{}])[0])
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its multiscales metadata are wrong: {error!r}") from error
    if not found.get("datasets"):
        raise ValueError("no multiscales metadata, so it is not an OME-Zarr image")
    if "coordinateSystems" in found:
        raise ValueError("OME-Zarr with coordinate systems (0.6 and later) is not supported")
    return found


def _log_deviation(path: Path, multiscale: Mapping[str, Any], version: str) -> None:
    """Log the first rule of OME-NGFF that the metadata break; versions before 0.4 are not checked."""
    if version == "0.4":
        from ome_zarr_models.v04.multiscales import Multiscale  # half a second
    elif version == "0.5":
        from ome_zarr_models.v05.multiscales import Multiscale  # type: ignore[assignment]
    else:
        return
    try:
        Multiscale.model_validate(multiscale)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, ("multiscales", 0, *first["loc"])))
        log.warning("%s is not valid OME-Zarr %s: %s: %s", path.name, version, place, first["msg"])


def _axes(multiscale: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The axes as 0.4 writes them; 0.3 has only names, 0.1 and 0.2 always mean TCZYX."""
    found = multiscale.get("axes") or "tczyx"
    axes = [dict(axis) if isinstance(axis, Mapping) else {"name": axis} for axis in found]
    return [{**axis, "name": str(axis["name"])} for axis in axes]


def _letters(axes: Sequence[Mapping[str, Any]], shape: Sequence[int]) -> str:
    letters = [axis["name"].upper() for axis in axes]
    names = ", ".join(letters)
    if len(letters) != len(shape):
        raise ValueError(f"{len(letters)} axes ({names}) for {len(shape)} dimensions")
    if [letter for letter in "TCZYX" if letter in letters] != letters:
        raise ValueError(f"axes {names} are not some of T, C, Z, Y, X in this order")
    if letters[-2:] != ["Y", "X"]:
        raise ValueError(f"axes {names} lack Y or X")
    if min(shape) < 1:
        raise ValueError(f"shape {tuple(shape)} has no pixels")
    return "".join(letters)


def _scale(multiscale: Mapping[str, Any], count: int) -> list[float]:
    """Scale of the first dataset, times that of the whole image (OME-NGFF 0.4 § multiscales)."""
    product = [1.0] * count
    for level in (multiscale["datasets"][0], multiscale):
        for transformation in level.get("coordinateTransformations") or []:
            if transformation.get("type") == "scale" and "scale" in transformation:
                if len(transformation["scale"]) != count:
                    raise ValueError(f"scale {transformation['scale']} for {count} axes")
                product = [a * float(b) for a, b in zip(product, transformation["scale"], strict=True)]
    return product


def _contained(path: str) -> str:
    """A path that metadata name; it must stay below its folder."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or path.startswith("/"):
        raise ValueError(f"the path {path!r} is outside the image")
    return path
