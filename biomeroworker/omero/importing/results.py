"""Read the images among the results as OMERO takes them: their names, axes, types and pixel sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from biomeroworker.domain.manifest import InputImage, PhysicalSize
from biomeroworker.errors import Permanent
from biomeroworker.imaging import reader
from biomeroworker.imaging.results import Result, stem_of, to_tczyx


def image_name(result: Result, pattern: str = "") -> str:
    """The name of a result image in OMERO: ``<user's name>_<suffix>``, or the pattern with its fields filled in.

    The fields of a pattern are ``{original_file}`` and ``{original_ext}`` (name and suffix of the input), ``{file}``
    and ``{ext}`` (those of the result). Other text in braces is not changed.
    """
    original = result.input.name if result.input else ""
    # an input's name may contain a path, or a series in brackets: "plate1/a.lif [Series 3]"
    known = re.fullmatch(
        r"(?P<stem>.*?)(?P<ext>(\.ome)?\.[A-Za-z][A-Za-z0-9]{0,7})?(?P<rest>\s*\[.*\])?", original, re.S
    )
    stem, ending = (known["stem"] + (known["rest"] or ""), known["ext"] or "") if known else (original, "")
    if pattern:
        values = {
            "original_file": stem or stem_of(result.path),
            "original_ext": ending.lstrip("."),
            "file": stem_of(result.path),
            "ext": PurePosixPath(result.path).suffix.lstrip("."),
        }
        return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), pattern)[:255]
    return "_".join(filter(None, (stem, result.suffix or "result")))[:255]


@dataclass(frozen=True)
class Pixels:
    """An image that was read: TCZYX values of a type that OMERO has, pixel sizes and names of channels."""

    values: np.ndarray[Any, Any]
    pixel_size: dict[Literal["x", "y", "z"], PhysicalSize]
    channels: tuple[str, ...] = ()

    @property
    def pixel_type(self) -> str:
        """OMERO's name for the type."""
        name: str = self.values.dtype.name
        return {"float32": "float", "float64": "double"}.get(name, name)


def read_image(path: Path, source: InputImage | None) -> Pixels:
    """Read a result image as TCZYX.

    If it has the width and height of the input, it has the input's pixel sizes, which are exact. Otherwise, and for
    axes without a size in the input, it has those of the file. Names of channels are those of the file, or those of the
    input if their number fits.
    """
    found = reader.read(path)
    values = to_omero_type(to_tczyx(found.values, found.axes, source.shape if source else None))
    sizes = dict(found.pixel_size)
    names = [found.channels]
    if source is not None:
        if values.shape[3:] == source.shape[3:]:
            sizes |= {
                axis: size
                for axis, size in source.pixel_size.items()
                if axis != "z" or "z" not in sizes or values.shape[2] == source.shape[2]
            }
        names += [source.channels] if values.shape[1] > 1 else []
    channels = next((one for one in names if len(one) == values.shape[1]), ())
    return Pixels(values, sizes, channels)


def to_omero_type(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values in a type that OMERO has; it has no 64-bit integers, no booleans and no 16-bit floats.

    Raises `Permanent` if a value does not fit.
    """
    kind = values.dtype.kind
    if values.dtype.name in {"int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"}:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if kind == "b":
        return values.astype(np.uint8)
    if kind == "f" and values.dtype.itemsize < 4:
        return values.astype(np.float32)
    if kind in "iu":
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        for wanted in (np.uint32, np.int32):
            if np.iinfo(wanted).min <= low and high <= np.iinfo(wanted).max:
                return values.astype(wanted)
        raise Permanent(f"a result has values from {low} to {high}; OMERO's integers have 32 bits")
    raise Permanent(f"a result has pixels of type {values.dtype.name}, which OMERO does not have")


def to_pyramid_type(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values in a type that OMERO can store for planes that are large enough to need a pyramid.

    Pyramids are JPEG-2000 with 8 or 16 unsigned bits. Real numbers are stored without a pyramid
    (`omero.pixeldata.max_plane_float_override`). So integers that do not fit into 16 bits become real numbers, of a
    type that represents each of them exactly.
    """
    if values.dtype.name in ("uint8", "uint16") or values.dtype.kind == "f" or not values.size:
        return values
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < 2**16:
        return values.astype(np.uint16)
    return values.astype(np.float32 if max(-low, high) <= 2**24 else np.float64)
