"""An image file that was opened: its description, its pixels, and the errors that it can raise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.errors import Permanent

TIFF = (".tif", ".tiff")
PNG = (".png",)
Axis = Literal["x", "y", "z"]
AXES: tuple[Axis, ...] = ("x", "y", "z")


@dataclass(frozen=True)
class ImageFile:
    """An image that was opened; ``load`` reads its pixels.

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
        """The pixels, read once; a large uncompressed TIFF is mapped, not read.

        Raises
        ------
        Permanent
            The file is broken.
        OSError
            The file cannot be read.
        """
        with translate_errors(self.path):
            return self.load()


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise `Permanent`, with the name of the file, for what a broken file makes the libraries raise.

    Their own error classes are subclasses of these. An `OSError` is no fault of the file and passes.
    """
    try:
        yield
    except (ValueError, IndexError, KeyError, SyntaxError) as error:
        kind = "OME-Zarr" if path.is_dir() else "PNG" if path.name.lower().endswith(PNG) else "TIFF"
        raise Permanent(f"{path.name} cannot be read as {kind}: {error}", hint="check the file") from error


def positive_length(value: Any) -> float:
    """The value as a finite number above 0, or 0.0 if it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if 0 < number < math.inf else 0.0
