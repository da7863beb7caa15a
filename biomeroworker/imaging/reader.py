"""Read an image file with its metadata: axes, pixel sizes with units, names of channels.

OME-TIFF, ImageJ's TIFF, any other TIFF, PNG, and OME-Zarr (a folder, also one of its label images). What a file does
not state is left empty, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.domain.units import LENGTHS
from biomeroworker.imaging.image_file import AXES, PNG, Axis, ImageFile, positive_length, translate_errors

#: Larger TIFFs are mapped rather than read, where they are not compressed.
IN_MEMORY_BYTES = 256 << 20

_OME_UNITS = {symbol: name for name, symbol in LENGTHS.items()} | {"um": "micrometer"}
#: What ImageJ's users write into "Unit of length".
_IMAGEJ_UNITS = {
    "micron": "micrometer", "microns": "micrometer", "um": "micrometer", "µm": "micrometer", "μm": "micrometer",
    "\\u00b5m": "micrometer", "nm": "nanometer", "nanometer": "nanometer", "mm": "millimeter", "cm": "centimeter",
    "m": "meter", "inch": "inch",
}  # fmt: skip


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """Open an image. Its ``values`` can be read inside the block; once read, they can be used after it.

    Raises
    ------
    Permanent
        The file is broken; the message names it.
    OSError
        The file cannot be read, or there is none.
    """
    with ExitStack() as stack:
        with translate_errors(path):
            if path.is_dir():
                from biomeroworker.imaging.ome_zarr_reader import open_ome_zarr  # imports zarr, which takes a second

                image = open_ome_zarr(path)
            else:
                image = _open_png(path) if path.name.lower().endswith(PNG) else _open_tiff(path, stack)
        yield image


def read(path: Path) -> ImageFile:
    """Open an image, and read it."""
    with opened(path) as image:
        _ = image.values
    return image


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
    """The ``Pixels`` of the first image of OME-XML; empty if the XML is broken."""
    try:
        found = tifffile.xml2dict(xml)["OME"]["Image"]
        pixels: Mapping[str, Any] = (found[0] if isinstance(found, list) else found)["Pixels"]
    except (KeyError, TypeError, IndexError, SyntaxError):
        return {}
    return pixels


def _ome_sizes(pixels: Mapping[str, Any]) -> dict[Axis, PhysicalSize]:
    """Pixel sizes in units of length; the schema's default unit is the micrometre. Others (``pixel``) are ignored."""
    sizes: dict[Axis, PhysicalSize] = {}
    for axis in AXES:
        unit = _OME_UNITS.get(str(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")))
        value = positive_length(pixels.get(f"PhysicalSize{axis.upper()}"))
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
        if tag is not None and all(tag.value) and (value := positive_length(tag.value[1] / tag.value[0])):
            sizes[axis] = PhysicalSize(value=value, unit=unit)
    if value := positive_length(described.get("spacing")):
        sizes["z"] = PhysicalSize(value=value, unit=unit)
    return sizes


# -- PNG -------------------------------------------------------------------------------------------------------------


def _open_png(path: Path) -> ImageFile:
    """Grey values or samples; palette indices become colours. PNG's pixels per metre are for printing: ignored."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
            converted = image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode == "P" else image
            values = np.asarray(converted)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValueError(str(error)) from error
    return ImageFile(path, values.shape, values.dtype, "YX" if values.ndim == 2 else "YXS", lambda: values)
