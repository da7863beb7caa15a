"""Planes of a Pixels in one file: where each lies, and reading and writing parts of it.

The layout is that of OMERO's ROMIO: no header, big-endian values, planes in the Pixels' dimension order.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy

#: Pixel types by the server's names: bytes per value, as the server reports them.
TYPES = {
    "bit": "",
    "int8": ">i1",
    "uint8": ">u1",
    "int16": ">i2",
    "uint16": ">u2",
    "int32": ">i4",
    "uint32": ">u4",
    "float": ">f4",
    "double": ">f8",
}


#: Pixels of a plane above which the server keeps a pyramid (omero.pixeldata.max_plane_width by …_height).
LARGEST_PLANE = 3192 * 3192


class OutOfBounds(Exception):
    """A plane, row or pixel that is not there."""


@dataclass(frozen=True)
class Shape:
    """Sizes, type and order of a Pixels."""

    x: int
    y: int
    z: int
    c: int
    t: int
    kind: str
    order: str = "XYZCT"

    @property
    def width(self) -> int:
        """Bytes per value."""
        return numpy.dtype(TYPES[self.kind]).itemsize if TYPES[self.kind] else 0

    @property
    def row(self) -> int:
        """Bytes per row."""
        return self.x * self.width

    @property
    def plane(self) -> int:
        """Bytes per plane."""
        return self.row * self.y

    @property
    def stack(self) -> int:
        """Bytes of all planes along z."""
        return self.plane * self.z

    @property
    def timepoint(self) -> int:
        """Bytes of all stacks of one t."""
        return self.stack * self.c

    @property
    def total(self) -> int:
        """Bytes of the file."""
        return self.timepoint * self.t

    @property
    def needs_pyramid(self) -> bool:
        """Whether the server keeps tiles of it, not planes; of real numbers it never does."""
        return self.x * self.y > LARGEST_PLANE and self.kind not in ("float", "double")

    def check(self, **places: int) -> None:
        """Raise `OutOfBounds` for the first coordinate that is not there, in the order given."""
        for name, value in places.items():
            axis = name[0]
            size = getattr(self, axis)
            if not 0 <= value < size:
                raise OutOfBounds(f"{axis.upper()} '{value}' greater than size{axis.upper()} '{size}'.")

    def plane_offset(self, z: int, c: int, t: int) -> int:
        """Where a plane begins in the file."""
        index, step = 0, 1
        places = {"Z": (z, self.z), "C": (c, self.c), "T": (t, self.t)}
        for axis in self.order[2:]:
            place, size = places[axis]
            index, step = index + place * step, step * size
        return index * self.plane


class PlaneFile:
    """The file of one Pixels, made (full of zeroes) when first touched."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path, self.shape = path, shape
        #: Pixels are write-once: only who finds no file may write.
        self.writable = not path.exists()
        self._handle: int | None = None
        self._map: mmap.mmap | None = None

    def _open(self) -> int:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT if self.writable else os.O_RDONLY, 0o640)
            if self.writable and os.fstat(self._handle).st_size < self.shape.total:
                os.ftruncate(self._handle, self.shape.total)
        return self._handle

    def view(self, offset: int, size: int) -> memoryview | bytes:
        """Bytes of the file without a copy; zeroes where it has none."""
        handle = self._open()
        if self._map is None and self.shape.total and os.fstat(handle).st_size >= self.shape.total:
            self._map = mmap.mmap(handle, self.shape.total, prot=mmap.PROT_READ)
        if self._map is not None and 0 <= offset <= offset + size <= len(self._map):
            return memoryview(self._map)[offset : offset + size]
        data = os.pread(handle, size, offset)
        return data + bytes(size - len(data))

    def put(self, offset: int, data: bytes) -> None:
        """Write bytes at a place."""
        handle, rest = self._open(), memoryview(data)
        while rest:
            done = os.pwrite(handle, rest, offset)
            rest, offset = rest[done:], offset + done

    def digest(self) -> bytes:
        """SHA-1 of the whole file."""
        digest, step = hashlib.sha1(usedforsecurity=False), 1 << 24
        for start in range(0, self.shape.total, step):
            digest.update(self.view(start, min(step, self.shape.total - start)))
        return digest.digest()

    def plane(self, z: int, c: int, t: int) -> numpy.ndarray:
        """A plane as an array of shape (y, x), big-endian, read-only."""
        shape = self.shape
        data = self.view(shape.plane_offset(z, c, t), shape.plane)
        return numpy.frombuffer(data, TYPES[shape.kind]).reshape(shape.y, shape.x)

    def hypercube(self, offset: list[int], size: list[int], step: list[int]) -> bytes:
        """A strided part in X, Y, Z, C, T, as bytes in that order (X fastest)."""
        ends = [start + length for start, length in zip(offset, size, strict=True)]
        x, y, z, c, t = (slice(*bounds) for bounds in zip(offset, ends, step, strict=True))
        planes = itertools.product(
            range(t.start, t.stop, t.step), range(c.start, c.stop, c.step), range(z.start, z.stop, z.step)
        )
        return b"".join(self.plane(pz, pc, pt)[y, x].tobytes() for pt, pc, pz in planes)

    def close(self) -> None:
        """Close the file. The mapping remains as long as a view of it exists."""
        self._map = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
