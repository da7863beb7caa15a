"""Exporter and IProjection: an image as a file, and several planes as one."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy
import omero
import omero.clients

from omero_stand_in import errors, ome_tiff, rendering
from omero_stand_in.context import Call, ServerContext, context_of
from omero_stand_in.plane_files import TYPES, OutOfBounds, PlaneFile
from omero_stand_in.servant import Service
from omero_stand_in.sessions import Session

from .pixels_raw import shape_of

#: An OME-TIFF has four bytes for a place in it.
_LARGEST = 1 << 31


class ExporterService(Service):
    """One image as OME-XML or OME-TIFF, read in blocks."""

    interface = omero.api.Exporter
    stateful = True

    def __init__(self, server: ServerContext, session: Session) -> None:
        super().__init__(server, session)
        self._images: list[int] = []
        self._file: IO[bytes] | None = None

    def addImage(self, call: Call, number: int) -> None:
        """The image to export."""
        self._images.append(number)

    def _description(self, call: Call, what: str) -> tuple[ome_tiff.Description, int]:
        if len(self._images) != 1:
            raise errors.api_usage(f"Only one image supported for {what}, not {len(self._images)}")
        with self.server.graph.transaction(context_of(call)) as tx:
            image = tx.find("Image", self._images[0])
            if image is None:
                raise errors.api_usage(f"Cannot load image: {self._images[0]}")
            found = tx.members(image, "pixels")
            if not found:
                raise errors.api_usage(f"No pixels to export: {image.id}")
            pixels = found[0]
            names = [tx.target(one, "logicalChannel") for one in tx.members(pixels, "channels")]
            sizes = [pixels.get(f"physicalSize{axis}") for axis in "XYZ"]
            about = ome_tiff.Description(
                image.get("name"),
                shape_of(self.server, call, pixels.id),
                [one.get("name") if one else None for one in names],
                tuple(one[0] if one and one[1] == "MICROMETER" else None for one in sizes),
            )
        return about, pixels.id

    def generateXml(self, call: Call) -> int:
        """Make the OME-XML; returns its size."""
        about, _ = self._description(call, "XML")
        return self._keep(ome_tiff.xml(about, False).encode())

    def generateTiff(self, call: Call) -> int:
        """Make the OME-TIFF; returns its size."""
        about, pixels = self._description(call, "TIFF")
        path, shape = self.server.disk.pixels(pixels), about.shape
        if not path.exists():
            raise errors.resource(f"Error instantiating pixel buffer: {path}")
        if shape.total > _LARGEST or shape.width == 0:
            raise errors.not_implemented("omero.api.Exporter", "generateTiff of more than 2 GiB or of single bits")
        file = PlaneFile(path, shape)
        try:
            count = shape.z * shape.c * shape.t
            return self._keep(
                ome_tiff.tiff(about, (file.view(index * shape.plane, shape.plane) for index in range(count)))
            )
        finally:
            file.close()

    def _keep(self, content: bytes) -> int:
        self.closed()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the service
        self._file.write(content)
        return len(content)

    def read(self, call: Call, position: int, length: int) -> bytes:
        """A block of what was made."""
        if self._file is None:
            raise errors.api_usage("Call a generate method first")
        self._file.seek(position)
        return self._file.read(length)

    def closed(self) -> None:
        """Close the exported file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class ProjectionService(Service):
    """Several z as one plane."""

    interface = omero.api.IProjection

    def projectStack(
        self, call: Call, pixels: int, kind: Any, algorithm: Any, t: int, channel: int, step: int, start: int, end: int
    ) -> bytes:
        """Big-endian values of one projected plane, in the type given or the image's own."""
        shape = shape_of(self.server, call, pixels)
        path = self.server.disk.pixels(pixels)
        if not path.exists():
            raise errors.resource(f"Error instantiating pixel buffer: {path}")
        name = shape.kind
        if kind is not None:
            with self.server.graph.transaction(context_of(call)) as tx:
                name = tx.get("PixelsType", kind.id.val).get("value")
        file = PlaneFile(path, shape)
        try:
            shape.check(z=start, z_end=end, c=channel, t=t)
            planes = [numpy.array(file.plane(z, channel, t)) for z in range(shape.z)]
        except OutOfBounds as error:
            raise errors.validation(str(error)) from None
        finally:
            file.close()
        answer = rendering.projected(planes, str(algorithm), start, end, max(step, 1))
        return answer.astype(TYPES[name]).tobytes()
