"""Read an image file with all that it says of itself: axes, pixel sizes with units, names of channels.

OME-TIFF, ImageJ's TIFF, any other TIFF, PNG, and OME-Zarr (a folder, also one of its label images). What a file does
not say is left empty, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.errors import Permanent
from biomeroworker.remote import convert

TIFF = (".tif", ".tiff")
PNG = (".png",)
ZARR = (".zarr",)
#: Larger TIFFs are mapped rather than read, where they are not compressed.
IN_MEMORY_BYTES = 256 << 20

Axis = Literal["x", "y", "z"]
_AXES: tuple[Axis, ...] = ("x", "y", "z")
_OME_UNITS = {symbol: name for name, symbol in convert.LENGTHS.items()} | {"um": "micrometer"}
#: What ImageJ's users write into "Unit of length".
_IMAGEJ_UNITS = {
    "micron": "micrometer", "microns": "micrometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer",
    "\\u00b5m": "micrometer", "nm": "nanometer", "nanometer": "nanometer", "mm": "millimeter", "cm": "centimeter",
    "m": "meter", "inch": "inch",
}  # fmt: skip


@dataclass(frozen=True)
class ImageFile:
    """An image that was opened: its pixels are read when they are asked for.

    ``axes`` has a letter for each dimension: T, C, Z, Y, X; S for the samples of a colour image; Q and I where the file
    does not name the axis. ``channels`` is empty unless every channel has a name.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    load: Callable[[], np.ndarray[Any, Any]]
    pixel_size: dict[Axis, PhysicalSize] = field(default_factory=dict)
    channels: tuple[str, ...] = ()

    @cached_property
    def values(self) -> np.ndarray[Any, Any]:
        """The pixels; of a large uncompressed TIFF mapped, not read."""
        with _faults(self.path):
            return self.load()


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """Open an image; its ``values`` are to be had until the end of the block, or after it if asked for inside.

    Raises
    ------
    Permanent
        It is broken; the message names it.
    OSError
        It cannot be read, or is not there.
    """
    with ExitStack() as stack:
        with _faults(path):
            if path.is_dir():
                image = _open_zarr(path)
            else:
                image = _open_png(path) if path.name.lower().endswith(PNG) else _open_tiff(path, stack)
        yield image


def read(path: Path) -> ImageFile:
    """Open an image, and read it."""
    with opened(path) as image:
        _ = image.values
    return image


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except convert.Unreadable as error:
        raise OSError(str(error)) from error
    except (tifffile.TiffFileError, convert.Unconvertible, ValueError, IndexError, KeyError, SyntaxError) as error:
        kind = "OME-Zarr" if path.is_dir() else "PNG" if path.name.lower().endswith(PNG) else "TIFF"
        raise Permanent(f"{path.name} cannot be read as {kind}: {error}", hint="look at the file") from error


# -- TIFF -----------------------------------------------------------------------------------------------------------


def _open_tiff(path: Path, stack: ExitStack) -> ImageFile:
    tiff = stack.enter_context(tifffile.TiffFile(path))
    series = tiff.series[0]
    sizes: dict[Axis, PhysicalSize] = {}
    channels: tuple[str, ...] = ()
    if tiff.ome_metadata:
        pixels = _first_pixels(tiff.ome_metadata)
        sizes, channels = _ome_sizes(pixels), _ome_channels(pixels)
    elif tiff.imagej_metadata:
        sizes = _imagej_sizes(tiff)

    def load() -> np.ndarray[Any, Any]:
        values: np.ndarray[Any, Any] = series.asarray(out="memmap" if series.nbytes > IN_MEMORY_BYTES else None)
        return values

    return ImageFile(path, tuple(series.shape), np.dtype(series.dtype), series.axes, load, sizes, channels)


def _first_pixels(xml: str) -> Mapping[str, Any]:
    """The ``Pixels`` of the first image of OME-XML; nothing where the XML is not what it should be."""
    try:
        found = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels: Mapping[str, Any] = (found[0] if isinstance(found, list) else found)["Pixels"]
    except (KeyError, TypeError, IndexError, SyntaxError):
        return {}
    return pixels


def _ome_sizes(pixels: Mapping[str, Any]) -> dict[Axis, PhysicalSize]:
    """Lengths, with the micrometre that the schema has where no unit is given; pixels and reference frames are none."""
    sizes: dict[Axis, PhysicalSize] = {}
    for axis in _AXES:
        unit = _OME_UNITS.get(str(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")))
        value = _length(pixels.get(f"PhysicalSize{axis.upper()}"))
        if unit and value:
            sizes[axis] = PhysicalSize(value=value, unit=unit)
    return sizes


def _ome_channels(pixels: Mapping[str, Any]) -> tuple[str, ...]:
    found = pixels.get("Channel", [])
    names = [one.get("Name") for one in (found if isinstance(found, list) else [found]) if isinstance(one, Mapping)]
    return tuple(map(str, names)) if names and all(names) else ()


def _imagej_sizes(tiff: tifffile.TiffFile) -> dict[Axis, PhysicalSize]:
    """Pixels per unit in the tags X- and YResolution, the distance of planes in ``spacing``."""
    described = tiff.imagej_metadata or {}
    unit = _IMAGEJ_UNITS.get(str(described.get("unit", "")).strip().lower())
    if unit is None:
        return {}
    sizes: dict[Axis, PhysicalSize] = {}
    tags = tiff.pages.first.tags
    found: tuple[tuple[Axis, str], ...] = (("x", "XResolution"), ("y", "YResolution"))
    for axis, name in found:
        tag = tags.get(name)
        if tag is not None and all(tag.value) and (value := _length(tag.value[1] / tag.value[0])):
            sizes[axis] = PhysicalSize(value=value, unit=unit)
    if value := _length(described.get("spacing")):
        sizes["z"] = PhysicalSize(value=value, unit=unit)
    return sizes


def _length(given: Any) -> float:
    """A length above 0, or 0 for none."""
    try:
        value = float(given)
    except (TypeError, ValueError):
        return 0.0
    return value if 0 < value < math.inf else 0.0


# -- the others -----------------------------------------------------------------------------------------------------


def _open_png(path: Path) -> ImageFile:
    """Grey values, or samples; a palette is looked up. PNG's pixels per metre tell of paper, not of a sample."""
    from PIL import Image, UnidentifiedImageError  # not needed unless a workflow leaves PNG behind

    try:
        with Image.open(path) as image:
            image.load()
            converted = image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image
            values = np.asarray(converted)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValueError(str(error)) from error
    return ImageFile(path, values.shape, values.dtype, "YX" if values.ndim == 2 else "YXS", lambda: values)


def _open_zarr(path: Path) -> ImageFile:
    """The full resolution of an OME-Zarr image, or of a label image (a folder below ``labels/``)."""
    image = convert.Image(path, path.name)
    sizes: dict[Axis, PhysicalSize] = {}
    for axis in _AXES:
        unit, value = image.units.get(axis.upper()), _length(image.scale.get(axis.upper()))
        if unit in convert.LENGTHS and value:
            sizes[axis] = PhysicalSize(value=value, unit=str(unit))
    dtype = image.level.dtype.newbyteorder("=")

    def load() -> np.ndarray[Any, Any]:
        values = np.zeros(image.shape, dtype)
        for band in image.bands():
            found = image.level.read(band, dtype)
            if found is not None:
                values[band] = found
        return values

    named = tuple(image.channels) if all(image.channels) else ()
    return ImageFile(path, image.shape, dtype, "".join(image.axes), load, sizes, named)
