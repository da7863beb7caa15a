"""RawPixelsStore: the planes of an image, read and written as planes, rows, stacks, tiles and regions."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import omero
import omero.clients
from omero.rtypes import rstring

from omero_stand_in import errors
from omero_stand_in.context import ALL_GROUPS, Call, ServerContext, context_of
from omero_stand_in.plane_files import TYPES, OutOfBounds, PlaneFile, Shape
from omero_stand_in.servant import Service
from omero_stand_in.sessions import Session

from .writing import check_group

log = logging.getLogger(__name__)


#: The error of Java for an operation that a class does not have.
UNSUPPORTED = "java.lang.UnsupportedOperationException"
#: Width and height of a pyramid's tiles (omero.pixeldata.tile_width), and what they can hold.
PYRAMID_TILE = 256
PYRAMID_TYPES = ("uint8", "uint16")


def java(kind: str, text: str = "") -> Exception:
    """What the server makes of a Java exception that it did not expect."""
    return errors.internal(f" Wrapped Exception: ({kind}):\n{text}", "ome.conditions.InternalException")


def shape_of(server: ServerContext, call: Call, pixels: int) -> Shape:
    """Sizes and type of a Pixels that the caller may read."""
    with server.graph.transaction(context_of(call)) as tx:
        row = tx.get("Pixels", pixels)
        kind = tx.get("PixelsType", row.get("pixelsType")).get("value")
        order = tx.get("DimensionOrder", row.get("dimensionOrder")).get("value")
    if kind not in TYPES:
        raise errors.api_usage(f"Unknown type: '{kind}'")
    return Shape(*(row.get(f"size{axis}") for axis in "XYZCT"), kind, order)


class RawPixelsStoreService(Service):
    """One open Pixels. What is written is in the file at once; the row's sha1 follows with ``save`` or ``close``."""

    interface = omero.api.RawPixelsStore
    stateful = True

    def __init__(self, server: ServerContext, session: Session) -> None:
        super().__init__(server, session)
        self._id = 0
        self._file: PlaneFile | None = None
        self._modified = False
        self._last_call: Call | None = None

    # -- which pixels -------------------------------------------------------------------------------------------------
    def setPixelsId(self, call: Call, pixels: int, bypass: bool) -> None:
        """Open a Pixels that the caller may read."""
        shape = shape_of(self.server, call, pixels)
        self.closed()
        self._id, self._file = pixels, PlaneFile(self.server.disk.pixels(pixels), shape)

    def getPixelsId(self, call: Call) -> int:
        """The Pixels' id."""
        self._open()
        return self._id

    def getPixelsPath(self, call: Call) -> str:
        """Where the planes lie on the server."""
        return str(self._open().path)

    def prepare(self, call: Call, pixels: list[int]) -> None:
        """Nothing is gained here by knowing early which pixels will be opened."""

    def _open(self) -> PlaneFile:
        if self._file is None:
            raise errors.api_usage(
                "This RawPixelsStore has not been properly initialized.\nPlease set the pixels id first."
            )
        return self._file

    @contextlib.contextmanager
    def _reading(self, **places: int) -> Iterator[tuple[PlaneFile, Shape]]:
        file = self._open()
        try:
            file.shape.check(**places)
        except OutOfBounds as error:
            raise errors.api_usage(str(error)) from None
        yield file, file.shape

    @contextlib.contextmanager
    def _writing(self, call: Call, **places: int) -> Iterator[tuple[PlaneFile, Shape]]:
        with self._reading(**places) as (file, shape):
            if shape.needs_pyramid:
                raise java(UNSUPPORTED, "Non-tile based writing unsupported.")
            if not file.writable:
                raise errors.api_usage("Write-method not permitted.")
            yield file, shape
            self._modified, self._last_call = True, call

    # -- sizes and offsets --------------------------------------------------------------------------------------------
    def getPlaneSize(self, call: Call) -> int:
        """Bytes of a plane."""
        return self._open().shape.plane

    def getRowSize(self, call: Call) -> int:
        """Bytes of a row."""
        return self._open().shape.row

    def getStackSize(self, call: Call) -> int:
        """Bytes of a stack."""
        return self._open().shape.stack

    def getTimepointSize(self, call: Call) -> int:
        """Bytes of a timepoint."""
        return self._open().shape.timepoint

    def getTotalSize(self, call: Call) -> int:
        """Bytes of all."""
        return self._open().shape.total

    def getByteWidth(self, call: Call) -> int:
        """Bytes of a value."""
        return self._open().shape.width

    def isSigned(self, call: Call) -> bool:
        """Whether values may be negative."""
        return self._open().shape.kind in ("int8", "int16", "int32", "float", "double")

    def isFloat(self, call: Call) -> bool:
        """Whether values are floating-point."""
        return self._open().shape.kind in ("float", "double")

    def getRowOffset(self, call: Call, y: int, z: int, c: int, t: int) -> int:
        """Where a row begins."""
        with self._reading(y=y, z=z, c=c, t=t) as (_, shape):
            return shape.plane_offset(z, c, t) + y * shape.row

    def getPlaneOffset(self, call: Call, z: int, c: int, t: int) -> int:
        """Where a plane begins."""
        with self._reading(z=z, c=c, t=t) as (_, shape):
            return shape.plane_offset(z, c, t)

    def getStackOffset(self, call: Call, c: int, t: int) -> int:
        """Where a stack begins."""
        with self._reading(c=c, t=t) as (_, shape):
            return shape.plane_offset(0, c, t)

    def getTimepointOffset(self, call: Call, t: int) -> int:
        """Where a timepoint begins."""
        with self._reading(t=t) as (_, shape):
            return shape.plane_offset(0, 0, t)

    # -- reading ------------------------------------------------------------------------------------------------------
    def getRegion(self, call: Call, size: int, offset: int) -> Any:
        """Bytes at a place of the file; zeroes past its end."""
        return self._open().view(offset, size)

    def getRow(self, call: Call, y: int, z: int, c: int, t: int) -> Any:
        """One row."""
        with self._reading(y=y, z=z, c=c, t=t) as (file, shape):
            return file.view(shape.plane_offset(z, c, t) + y * shape.row, shape.row)

    def getCol(self, call: Call, x: int, z: int, c: int, t: int) -> Any:
        """One column."""
        with self._reading(z=z, c=c, t=t) as (file, shape):
            if not 0 <= x < shape.x:
                raise java("java.lang.IndexOutOfBoundsException")
            return file.plane(z, c, t)[:, x].tobytes()

    def getPlane(self, call: Call, z: int, c: int, t: int) -> Any:
        """One plane."""
        with self._reading(z=z, c=c, t=t) as (file, shape):
            return file.view(shape.plane_offset(z, c, t), shape.plane)

    def getPlaneRegion(self, call: Call, z: int, c: int, t: int, size: int, offset: int) -> Any:
        """``size`` values of a plane from the one at ``offset``."""
        with self._reading(z=z, c=c, t=t) as (file, shape):
            return file.view(shape.plane_offset(z, c, t) + offset * shape.width, size * shape.width)

    def getStack(self, call: Call, c: int, t: int) -> Any:
        """All planes along z."""
        with self._reading(c=c, t=t) as (file, shape):
            return self._planes(file, [(z, c, t) for z in range(shape.z)])

    def getTimepoint(self, call: Call, t: int) -> Any:
        """All stacks of one t."""
        with self._reading(t=t) as (file, shape):
            return self._planes(file, [(z, c, t) for c in range(shape.c) for z in range(shape.z)])

    @staticmethod
    def _planes(file: PlaneFile, places: list[tuple[int, int, int]]) -> Any:
        shape = file.shape
        if shape.order.startswith("XYZC"):
            return file.view(shape.plane_offset(*places[0]), shape.plane * len(places))
        return b"".join(file.view(shape.plane_offset(*place), shape.plane) for place in places)

    def getTile(self, call: Call, z: int, c: int, t: int, x: int, y: int, w: int, h: int) -> Any:
        """A rectangle of a plane."""
        with self._reading(x=x, y=y, z=z, c=c, t=t), self._reading(x_end=x + w - 1, y_end=y + h - 1) as (file, shape):
            if x == 0 and w == shape.x:
                return file.view(shape.plane_offset(z, c, t) + y * shape.row, h * shape.row)
            return file.plane(z, c, t)[y : y + h, x : x + w].tobytes()

    def getHypercube(self, call: Call, offset: list[int], size: list[int], step: list[int]) -> Any:
        """A strided part in X, Y, Z, C, T."""
        file = self._open()
        ends = (start + length for start, length in zip(offset, size, strict=True))
        limits = (file.shape.x, file.shape.y, file.shape.z, file.shape.c, file.shape.t)
        bad = any(start < 0 for start in offset) or any(length < 1 for length in size) or any(one < 1 for one in step)
        if bad or any(end > limit for end, limit in zip(ends, limits, strict=True)):
            raise java("ome.io.nio.DimensionsOutOfBoundsException")
        return file.hypercube(list(offset), list(size), list(step))

    # -- writing ------------------------------------------------------------------------------------------------------
    def setRegion(self, call: Call, size: int, offset: int, data: bytes) -> None:
        """Bytes at a place of the file."""
        with self._writing(call) as (file, _):
            file.put(offset, _exactly(data, size))

    def setRow(self, call: Call, data: bytes, y: int, z: int, c: int, t: int) -> None:
        """One row."""
        with self._writing(call, y=y, z=z, c=c, t=t) as (file, shape):
            file.put(shape.plane_offset(z, c, t) + y * shape.row, _exactly(data, shape.row))

    def setPlane(self, call: Call, data: bytes, z: int, c: int, t: int) -> None:
        """One plane."""
        with self._writing(call, z=z, c=c, t=t) as (file, shape):
            file.put(shape.plane_offset(z, c, t), _exactly(data, shape.plane))

    def setStack(self, call: Call, data: bytes, z: int, c: int, t: int) -> None:
        """All planes along z."""
        with self._writing(call, c=c, t=t) as (file, shape):
            self._put_planes(file, _exactly(data, shape.stack), [(z, c, t) for z in range(shape.z)])

    def setTimepoint(self, call: Call, data: bytes, t: int) -> None:
        """All stacks of one t."""
        with self._writing(call, t=t) as (file, shape):
            places = [(z, c, t) for c in range(shape.c) for z in range(shape.z)]
            self._put_planes(file, _exactly(data, shape.timepoint), places)

    @staticmethod
    def _put_planes(file: PlaneFile, data: bytes, places: list[tuple[int, int, int]]) -> None:
        size, view = file.shape.plane, memoryview(data)
        for index, place in enumerate(places):
            file.put(file.shape.plane_offset(*place), view[index * size : (index + 1) * size])

    def setTile(self, call: Call, data: bytes, z: int, c: int, t: int, x: int, y: int, w: int, h: int) -> None:
        """Whole rows of a plane; the server measured cannot write less, but of a pyramid."""
        if self._open().shape.needs_pyramid:
            self._set_pyramid_tile(call, data, (z, c, t), (x, y, w, h))
            return
        with self._writing(call) as (file, shape):
            if x != 0:
                raise java(UNSUPPORTED, "ROMIO pixel buffer only supports 0 offseted tile writes.")
            if w != shape.x:
                raise java(UNSUPPORTED, "ROMIO pixel buffer only supports full row writes.")
            with self._writing(call, y=y, z=z, c=c, t=t), self._reading(y_end=y + h - 1):
                file.put(shape.plane_offset(z, c, t) + y * shape.row, _exactly(data, h * shape.row))

    def _set_pyramid_tile(
        self, call: Call, data: bytes, place: tuple[int, int, int], area: tuple[int, int, int, int]
    ) -> None:
        """A tile of a pyramid; what holds tiles of any other size is not written here."""
        file, (z, c, t), (x, y, w, h) = self._open(), place, area
        shape = file.shape
        if not file.writable:
            raise errors.api_usage("In read-only mode!")
        if shape.kind not in PYRAMID_TYPES:
            raise errors.not_implemented("omero.api.RawPixelsStore", f"setTile for a pyramid of {shape.kind}")
        sizes = (min(PYRAMID_TILE, shape.x - x), min(PYRAMID_TILE, shape.y - y))
        if x % PYRAMID_TILE or y % PYRAMID_TILE or (w, h) != sizes:
            raise errors.not_implemented("omero.api.RawPixelsStore", f"setTile for a pyramid at {area}")
        with self._reading(z=z, c=c, t=t):
            rows = memoryview(_exactly(data, w * h * shape.width))
        step = w * shape.width
        for row in range(h):
            at = shape.plane_offset(z, c, t) + (y + row) * shape.row + x * shape.width
            file.put(at, rows[row * step : (row + 1) * step])
        self._modified, self._last_call = True, call

    # -- the row ------------------------------------------------------------------------------------------------------
    def calculateMessageDigest(self, call: Call) -> bytes:
        """SHA-1 of the planes as they lie in the file."""
        return self._open().digest()

    def save(self, call: Call) -> Any:
        """Bring the row's sha1 up to date; null if nothing was written since."""
        if not self._modified:
            self._open()
            return None
        saved = self._saved(call)
        self._modified = False
        return saved

    def _saved(self, call: Call) -> Any:
        graph, digest = self.server.graph, self._open().digest().hex()
        with graph.transaction(context_of(call).in_group(ALL_GROUPS)) as tx:
            row = tx.get("Pixels", self._id)
            check_group(call, row)
            if not tx.can(row, "edit"):  # the server saves the row with its image, and stumbles over that first
                group, image = tx.get("ExperimenterGroup", row.group), tx.get("Image", row.get("image"))
                raise errors.security(f"Group is {group.permissions}. Cannot link to object: {image.java}")
            changed = tx.load(row)
            changed.sha1 = rstring(digest)
            with graph.transaction(context_of(call)) as callers:
                callers.save(changed)
            return tx.load(tx.get("Pixels", self._id))

    def closed(self) -> None:
        """Save the changes and close the file; a refused save is only logged, because the bytes are written."""
        file = self._file
        if file is None:
            return
        try:
            if self._modified and self._last_call is not None:
                self._saved(self._last_call)
        except Exception as error:
            log.info("closing pixels %s without saving their row: %s", self._id, getattr(error, "message", error))
        finally:
            self._modified, self._file = False, None
            file.close()

    # -- resolutions: only the full one; an image that would need a pyramid is refused ------------------------------
    def _flat(self, operation: str) -> PlaneFile:
        file = self._open()
        if file.shape.needs_pyramid:
            raise errors.not_implemented("omero.api.RawPixelsStore", f"{operation} of a pyramid")
        return file

    def requiresPixelsPyramid(self, call: Call) -> bool:
        """Whether planes are so large that they are written by tiles."""
        return self._open().shape.needs_pyramid

    def getResolutionLevels(self, call: Call) -> int:
        """One."""
        self._flat("getResolutionLevels")
        return 1

    def getResolutionLevel(self, call: Call) -> int:
        """The only one."""
        self._flat("getResolutionLevel")
        return 0

    def getResolutionDescriptions(self, call: Call) -> list[Any]:
        """The plane itself."""
        return [_description(self._flat("getResolutionDescriptions").shape)]

    def setResolutionLevel(self, call: Call, level: int) -> None:
        """Refused, as for every image without a pyramid."""
        self._flat("setResolutionLevel")
        raise java(UNSUPPORTED, "Cannot set resolution levels on a ROMIO pixel buffer.")

    def getTileSize(self, call: Call) -> list[int]:
        """The whole plane, or a pyramid's tile."""
        shape = self._open().shape
        return [PYRAMID_TILE, PYRAMID_TILE] if shape.needs_pyramid else [shape.x, shape.y]


def _description(shape: Shape) -> Any:
    found = omero.api.ResolutionDescription()
    found.sizeX, found.sizeY = shape.x, shape.y
    return found


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise errors.resource("BufferUnderflowException: null")
    if len(data) > size:
        raise errors.resource("BufferOverflowException: null")
    return data
