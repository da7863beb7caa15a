"""The images that a workflow accepts, as an administrator writes them: ``dimensions: 2D; channels: 1-3``. Pure.

Conditions are separated by ``;``. Each is a name, a colon and its values, separated by commas. An image is accepted if
it fulfills all conditions, with one of the values of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from biomeroworker.domain.manifest import InputImage

#: The pixel types that an image in OME-Zarr can have. OMERO's names for real numbers are accepted too.
PIXEL_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
_OMERO_NAMES = {"float": "float32", "double": "float64"}
_NUMBERS = re.compile(r"(\d+)(?:\s*(-)\s*(\d*))?")
EXAMPLE = "dimensions: 2D; channels: 1-3; pixel types: uint8, uint16; max pixels: 100000000"

#: Whether an image has a value.
_Test = Callable[[InputImage], bool]


@dataclass(frozen=True)
class Condition:
    """One condition: its name, its values as they were written, and a test for each value."""

    name: str
    text: str
    tests: tuple[_Test, ...]

    def fits(self, image: InputImage) -> bool:
        """Whether the image has one of the values."""
        return any(test(image) for test in self.tests)

    def describe(self, image: InputImage) -> str:
        """What the image has instead, such as ``has 5 channels``."""
        return _DESCRIBE[self.name](image)

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


def parse(text: str) -> tuple[Condition, ...]:
    """Parse the conditions; none for an empty text.

    Raises
    ------
    ValueError
        A condition is unknown, given twice, or has a wrong value. The message has what is allowed.
    """
    found: dict[str, Condition] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, colon, values = (word.strip() for word in part.partition(":"))
        name = " ".join(name.lower().split())
        if name not in _PARSE or not colon:
            raise ValueError(
                f"{part!r} is not a condition: write NAME: VALUE, separated by ';', such as {EXAMPLE!r}; the names are "
                f"{', '.join(_PARSE)}"
            )
        if name in found:
            raise ValueError(f"{name!r} is given twice: write all values in one condition, separated by ','")
        read, allowed = _PARSE[name]
        try:
            tests = tuple(read(value.strip()) for value in ([values] if name in _SINGLE else values.split(",")))
        except ValueError:
            raise ValueError(f"{part!r}: write for {name} {allowed}") from None
        found[name] = Condition(name, values, tests)
    return tuple(found.values())


# -- the conditions ---------------------------------------------------------------------------------------------------


def _sizes(size: Callable[[InputImage], int]) -> Callable[[str], _Test]:
    """Numbers (``2``) and ranges (``1-3``, ``2-``)."""

    def read(value: str) -> _Test:
        found = _NUMBERS.fullmatch(value)
        if found is None:
            raise ValueError(value)
        low = int(found[1])
        high = None if found[2] and not found[3] else int(found[3] or found[1])
        if low < 1 or (high is not None and high < low):
            raise ValueError(value)
        return lambda image: low <= size(image) and (high is None or size(image) <= high)

    return read


def _one_of(tests: dict[str, _Test]) -> Callable[[str], _Test]:
    def read(value: str) -> _Test:
        if value.lower() not in tests:
            raise ValueError(value)
        return tests[value.lower()]

    return read


def _pixel_type(value: str) -> _Test:
    wanted = _OMERO_NAMES.get(value.lower(), value.lower())
    if wanted not in PIXEL_TYPES:
        raise ValueError(value)
    return lambda image: image.pixel_type == wanted


def _max_pixels(value: str) -> _Test:
    most = int(value)
    if most < 1:
        raise ValueError(value)
    return lambda image: image.shape[3] * image.shape[4] <= most


def _planes(image: InputImage) -> int:
    return image.shape[2]


def _count(number: int, one: str, many: str) -> str:
    return f"has {number} {one if number == 1 else many}"


_RANGE = "numbers or ranges, such as 1, 1-3 or 2-"
#: The reader of a value, and what is allowed.
_PARSE: dict[str, tuple[Callable[[str], _Test], str]] = {
    "inputs": (
        _one_of({"images": lambda image: not image.is_plate, "plates": lambda image: image.is_plate}),
        "images or plates",
    ),
    "dimensions": (
        _one_of({"2d": lambda image: _planes(image) == 1, "3d": lambda image: _planes(image) > 1}),
        "2D (one plane) or 3D (several planes)",
    ),
    "planes": (_sizes(_planes), _RANGE),
    "channels": (_sizes(lambda image: image.shape[1]), _RANGE),
    "timepoints": (_sizes(lambda image: image.shape[0]), _RANGE),
    "pixel types": (_pixel_type, ", ".join(PIXEL_TYPES)),
    "max pixels": (_max_pixels, "one whole number: the most pixels of a plane (width x height)"),
}
#: Conditions with one value.
_SINGLE = {"max pixels"}
_DESCRIBE: dict[str, Callable[[InputImage], str]] = {
    "inputs": lambda image: "is a plate" if image.is_plate else "is an image and not a plate",
    "dimensions": lambda image: _count(_planes(image), "plane (Z)", "planes (Z)"),
    "planes": lambda image: _count(_planes(image), "plane (Z)", "planes (Z)"),
    "channels": lambda image: _count(image.shape[1], "channel", "channels"),
    "timepoints": lambda image: _count(image.shape[0], "time point", "time points"),
    "pixel types": lambda image: f"has pixels of type {image.pixel_type}",
    "max pixels": lambda image: (
        f"has {image.shape[4]} x {image.shape[3]} = {image.shape[3] * image.shape[4]} pixels in a plane"
    ),
}
