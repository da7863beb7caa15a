"""ThumbnailStore: small JPEGs of images, rendered on request."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients

from omero_stand_in import errors, rendering, rendering_settings
from omero_stand_in.context import Call, ServerContext, context_of
from omero_stand_in.graph import Entity
from omero_stand_in.plane_files import PlaneFile
from omero_stand_in.servant import Service
from omero_stand_in.sessions import Session

from .pixels_raw import java, shape_of

#: The side of a thumbnail for which no size is given.
SIDE = 48
#: Planes larger than this are thinned out before they are rendered.
_ENOUGH = 1024


def _size(value: Any) -> int:
    return value.val if value is not None and value.val > 0 else SIDE


class ThumbnailStoreService(Service):
    """Thumbnails of one image, or of a set."""

    interface = omero.api.ThumbnailStore
    stateful = True

    def __init__(self, server: ServerContext, session: Session) -> None:
        super().__init__(server, session)
        self._pixels: Entity | None = None
        self._stored: Entity | None = None
        #: the size of the first thumbnail made of the image, which the server goes back to
        self._made: tuple[int, int] | None = None

    # -- which image --------------------------------------------------------------------------------------------------
    def setPixelsId(self, call: Call, number: int) -> bool:
        """Choose the image; whether it has settings."""
        self._pixels, self._made = self._found(call, number), None
        with self.server.graph.transaction(context_of(call)) as tx:
            self._stored = rendering_settings.settings_of(tx, self._pixels, call.user_id)
        return self._stored is not None

    def _found(self, call: Call, number: int) -> Entity:
        with self.server.graph.transaction(context_of(call)) as tx:
            found = tx.find("Pixels", number)
        if found is None:
            raise errors.resource(
                f"Error retrieving Pixels id:{number}. Pixels set does not exist or the user id:{call.user_id} has"
                " insufficient permissions to retrieve it."
            )
        return found

    def setRenderingDefId(self, call: Call, number: int) -> None:
        """Choose other settings."""
        self._image()
        with self.server.graph.transaction(context_of(call)) as tx:
            self._stored = tx.get("RenderingDef", number)

    def getRenderingDefId(self, call: Call) -> int:
        """The settings in use."""
        return self._settings().id

    def resetDefaults(self, call: Call) -> None:
        """Make default settings for the caller."""
        self._make_settings(call, self._image())

    def _make_settings(self, call: Call, pixels: Entity) -> None:
        with self.server.graph.transaction(context_of(call)) as tx:
            settings = rendering_settings.defaults(tx, pixels)
            found = rendering_settings.settings_of(tx, pixels, call.user_id)
        own = found if found is not None and found.owner == call.user_id else None
        self._stored = rendering_settings.write(call, pixels, settings, own)

    def _image(self) -> Entity:
        if self._pixels is None:
            raise errors.api_usage("Thumbnail service not ready: Pixels not set.")
        return self._pixels

    def _settings(self) -> Entity:
        pixels = self._image()
        if self._stored is None:
            raise errors.internal(
                f"Fatal error retrieving rendering settings or settings not loaded for Pixels set id:{pixels.id}"
            )
        return self._stored

    # -- thumbnails ---------------------------------------------------------------------------------------------------
    def _picture(self, call: Call, width: int, height: int, z: int | None = None, t: int | None = None) -> bytes:
        pixels, stored = self._image(), self._settings()
        with self.server.graph.transaction(context_of(call)) as tx:
            settings = rendering_settings.read(tx, stored)
        z, t = settings.z if z is None else z, settings.t if t is None else t
        shape = shape_of(self.server, call, pixels.id)
        if not (0 <= z < shape.z and 0 <= t < shape.t):
            raise java("java.lang.RuntimeException", f"no plane at z {z} and t {t}")
        path = self.server.disk.pixels(pixels.id)
        if not path.exists():
            raise errors.not_yet(f"The planes of Pixels {pixels.id} have not been written yet")
        step = max(1, min(shape.x, shape.y) // _ENOUGH)
        file = PlaneFile(path, shape)
        try:
            picture = rendering.render(lambda index: file.plane(z, index, t)[::step, ::step], settings)
        finally:
            file.close()
        return rendering.jpeg(rendering.scaled(picture, width, height))

    def _within(self, side: int) -> tuple[int, int]:
        pixels = self._image()
        x, y = pixels.get("sizeX"), pixels.get("sizeY")
        return (side, max(1, side * y // x)) if x >= y else (max(1, side * x // y), side)

    def _remember(self, call: Call, width: int, height: int) -> None:
        """A row for the thumbnail: clients query its date."""
        pixels, graph = self._image(), self.server.graph
        context = context_of(call).in_group(pixels.group or 0)
        with graph.transaction(context) as tx:
            known = self._row(call, width, height)
            if known is not None or not tx.can(pixels, "annotate"):
                return
        with graph.transaction(context.as_server()) as tx:
            tx.insert(
                "Thumbnail", group=pixels.group, pixels=pixels.id, mimeType="image/jpeg", sizeX=width, sizeY=height
            )

    def _row(self, call: Call, width: int, height: int) -> Entity | None:
        with self.server.graph.transaction(context_of(call)) as tx:
            found = tx.where("Thumbnail", pixels=self._image().id, sizeX=width, sizeY=height)
        return next((one for one in found if one.owner == call.user_id), None)

    def _rendered(self, call: Call, width: int, height: int) -> bytes:
        picture = self._picture(call, width, height)
        self._made = self._made or (width, height)
        self._remember(call, width, height)
        return picture

    def getThumbnail(self, call: Call, width: Any, height: Any) -> bytes:
        """In the size given."""
        return self._rendered(call, _size(width), _size(height))

    def getThumbnailWithoutDefault(self, call: Call, width: Any, height: Any) -> bytes:
        """In the size given; without a picture of a clock in its place."""
        return self._rendered(call, _size(width), _size(height))

    def getThumbnailByLongestSide(self, call: Call, side: Any) -> bytes:
        """In the image's proportions."""
        self._settings()
        return self._rendered(call, *(self._made or self._within(_size(side))))

    def getThumbnailDirect(self, call: Call, width: Any, height: Any) -> bytes:
        """In the size given, leaving nothing behind."""
        return self._picture(call, _size(width), _size(height))

    def getThumbnailByLongestSideDirect(self, call: Call, side: Any) -> bytes:
        """In the image's proportions, leaving nothing behind."""
        self._settings()
        return self._picture(call, *self._within(_size(side)))

    def getThumbnailForSectionDirect(self, call: Call, z: int, t: int, width: Any, height: Any) -> bytes:
        """Of another plane."""
        return self._picture(call, _size(width), _size(height), z, t)

    def getThumbnailForSectionByLongestSideDirect(self, call: Call, z: int, t: int, side: Any) -> bytes:
        """Of another plane, in the image's proportions."""
        self._settings()
        return self._picture(call, *self._within(_size(side)), z, t)

    def getThumbnailSet(self, call: Call, width: Any, height: Any, numbers: list[int]) -> dict[int, bytes]:
        """Of several images; settings are made where there are none."""
        return self._set(call, numbers, lambda: (_size(width), _size(height)))

    def getThumbnailByLongestSideSet(self, call: Call, side: Any, numbers: list[int]) -> dict[int, bytes]:
        """Of several images in their proportions; settings are made where there are none."""
        return self._set(call, numbers, lambda: self._within(_size(side)))

    def _set(self, call: Call, numbers: list[int], size: Any) -> dict[int, bytes]:
        answer = {}
        for number in numbers:
            if not self.setPixelsId(call, number):
                try:
                    self._make_settings(call, self._image())
                except omero.SecurityViolation:  # another's image that its owner has not looked at yet
                    answer[number] = b""
                    continue
            answer[number] = self._rendered(call, *size())
        return answer

    def thumbnailExists(self, call: Call, width: Any, height: Any) -> bool:
        """Whether one of that size was made."""
        self._settings()
        return self._row(call, _size(width), _size(height)) is not None

    def isInProgress(self, call: Call) -> bool:
        """Always false: a thumbnail is rendered on request."""
        return False

    def createThumbnail(self, call: Call, width: Any, height: Any) -> None:
        """Make one."""
        self.getThumbnail(call, width, height)

    def createThumbnails(self, call: Call) -> None:
        """Does nothing: thumbnails are rendered on request."""
        self._settings()

    def createThumbnailsByLongestSideSet(self, call: Call, side: Any, numbers: list[int]) -> None:
        """Make one of each image."""
        self.getThumbnailByLongestSideSet(call, side, numbers)
