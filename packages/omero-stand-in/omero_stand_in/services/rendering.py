"""RenderingEngine: an image as people see it."""

from __future__ import annotations

from typing import Any

import numpy
import omero
import omero.clients
import omero.romio

from omero_stand_in import errors, rendering, rendering_settings
from omero_stand_in.context import Call, ServerContext, context_of
from omero_stand_in.graph import Entity
from omero_stand_in.plane_files import OutOfBounds, PlaneFile
from omero_stand_in.servant import Service
from omero_stand_in.sessions import Session

from .pixels_raw import java, shape_of


def kind_of(kind: Any) -> str:
    """The name of an ``omero.constants.projection.ProjectionType``."""
    return str(kind)


class RenderingEngineService(Service):
    """The rendering of one image; changes are stored only by the save operations."""

    interface = omero.api.RenderingEngine
    stateful = True

    def __init__(self, server: ServerContext, session: Session) -> None:
        super().__init__(server, session)
        self._pixels: Entity | None = None
        self._stored: Entity | None = None
        self._settings: rendering.Settings | None = None
        self._file: PlaneFile | None = None
        self._quality = rendering.JPEG_QUALITY / 100

    # -- which image, which settings ----------------------------------------------------------------------------------
    def lookupPixels(self, call: Call, number: int) -> None:
        """Choose the image."""
        with self.server.graph.transaction(context_of(call)) as tx:
            found = tx.find("Pixels", number)
        if found is None:
            raise errors.validation(f"Pixels object with id {number} not found.")
        self.closed()
        self._pixels, self._stored, self._settings = found, None, None

    def lookupRenderingDef(self, call: Call, number: int) -> bool:
        """Choose the caller's settings, or the owner's; false if there are none."""
        with self.server.graph.transaction(context_of(call)) as tx:
            self._stored = rendering_settings.settings_of(tx, tx.get("Pixels", number), call.user_id)
            if self._stored is not None:
                self._settings = rendering_settings.read(tx, self._stored)
        return self._stored is not None

    def loadRenderingDef(self, call: Call, number: int) -> None:
        """Choose settings by their id."""
        with self.server.graph.transaction(context_of(call)) as tx:
            found = tx.find("RenderingDef", number)
            if found is None:
                raise errors.validation(f"No rendering definition exists with ID = {number}")
            self._stored, self._settings = found, rendering_settings.read(tx, found)

    def load(self, call: Call) -> None:
        """Open the planes."""
        pixels, _ = self._image(), self._chosen()
        self._check_planes()
        self._file = PlaneFile(self.server.disk.pixels(pixels.id), shape_of(self.server, call, pixels.id))

    def closed(self) -> None:
        """Close the file of the planes."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _image(self) -> Entity:
        if self._pixels is None:
            raise errors.api_usage("RenderingEngine not ready: Pixels object not set.")
        return self._pixels

    def _check_planes(self) -> None:
        """Without planes there is nothing to look at; and looking must not make the file that is written once."""
        path = self.server.disk.pixels(self._image().id)
        if not path.exists():
            raise errors.not_yet(f"The planes of Pixels {self._image().id} have not been written yet")

    def _chosen(self) -> rendering.Settings:
        self._image()
        if self._settings is None:
            raise errors.api_usage("RenderingEngine not ready: RenderingDef object not set.")
        return self._settings

    def _channel(self, index: int) -> rendering.Channel:
        channels = self._chosen().channels
        if not 0 <= index < len(channels):
            raise java("java.lang.ArrayIndexOutOfBoundsException", f"{index}")
        return channels[index]

    def _planes(self) -> PlaneFile:
        self._image()
        if self._file is None:
            raise errors.api_usage("RenderingEngine not ready: renderer not loaded.")
        return self._file

    # -- rendering ----------------------------------------------------------------------------------------------------
    def _rendered(self, definition: Any) -> numpy.ndarray:
        file, settings = self._planes(), self._chosen()
        if definition.slice != omero.romio.XY:
            raise errors.not_implemented("omero.api.RenderingEngine", "render of other planes than XY")
        region, stride = definition.region, max(definition.stride, 0) + 1
        rows, columns = slice(None), slice(None)
        if region is not None:
            rows, columns = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)

        def plane(index: int) -> numpy.ndarray:
            try:
                file.shape.check(z=definition.z, c=index, t=definition.t)
            except OutOfBounds as error:
                raise java("java.lang.RuntimeException", str(error)) from None
            return file.plane(definition.z, index, definition.t)[rows, columns][::stride, ::stride]

        return rendering.render(plane, settings)

    def _projection(self, kind: Any, t: int, step: int, start: int, end: int) -> numpy.ndarray:
        file = self._planes()
        shape = file.shape
        if not 0 <= start <= end < shape.z or not 0 <= t < shape.t or step < 1:
            raise errors.validation(f"Z interval [{start}, {end}] or timepoint {t} out of bounds")

        def plane(index: int) -> numpy.ndarray:
            planes = [file.plane(z, index, t) for z in range(shape.z)]
            return rendering.projected(planes, kind_of(kind), start, end, step)

        return rendering.render(plane, self._chosen())

    def render(self, call: Call, definition: Any) -> Any:
        """Three bands of bytes."""
        picture = self._rendered(definition)
        bands = [picture[..., band].tobytes() for band in range(3)]
        return omero.romio.RGBBuffer(bands, picture.shape[1], picture.shape[0])

    def renderAsPackedInt(self, call: Call, definition: Any) -> list[int]:
        """ARGB numbers."""
        return rendering.packed(self._rendered(definition))

    def renderCompressed(self, call: Call, definition: Any) -> bytes:
        """A JPEG."""
        return rendering.jpeg(self._rendered(definition), self._quality)

    def renderProjectedAsPackedInt(self, call: Call, kind: Any, t: int, step: int, start: int, end: int) -> list[int]:
        """ARGB numbers of several z in one."""
        return rendering.packed(self._projection(kind, t, step, start, end))

    def renderProjectedCompressed(self, call: Call, kind: Any, t: int, step: int, start: int, end: int) -> bytes:
        """A JPEG of several z in one."""
        return rendering.jpeg(self._projection(kind, t, step, start, end), self._quality)

    def setCompressionLevel(self, call: Call, level: float) -> None:
        """Quality of the JPEGs, 0 to 1."""
        self._quality = min(max(level, 0.01), 1.0)

    def getCompressionLevel(self, call: Call) -> float:
        """Quality of the JPEGs."""
        return self._quality

    # -- settings of the image ----------------------------------------------------------------------------------------
    def getRenderingDefId(self, call: Call) -> int:
        """Id of the settings in use."""
        self._chosen()
        return self._stored.id if self._stored is not None else -1

    def getPixels(self, call: Call) -> Any:
        """The Pixels, with channels."""
        from .pixels_metadata import PixelsService

        return PixelsService(self.server, self.session).retrievePixDescription(call, self._image().id)

    def _enumeration(self, call: Call, name: str, value: str) -> Any:
        with self.server.graph.transaction(context_of(call)) as tx:
            return tx.load(tx.get(name, tx.enum(name, value)))

    def _enumerations(self, call: Call, name: str) -> list[Any]:
        with self.server.graph.transaction(context_of(call)) as tx:
            return [tx.load(row) for row in tx.rows(name)]

    def getModel(self, call: Call) -> Any:
        """Colours or grey."""
        return self._enumeration(call, "RenderingModel", self._chosen().model)

    def setModel(self, call: Call, model: Any) -> None:
        """Colours or grey."""
        with self.server.graph.transaction(context_of(call)) as tx:
            value = tx.get("RenderingModel", model.id.val).get("value")
        self._chosen().model = value

    def getAvailableModels(self, call: Call) -> list[Any]:
        """All models."""
        return self._enumerations(call, "RenderingModel")

    def getAvailableFamilies(self, call: Call) -> list[Any]:
        """All ways to map values."""
        return self._enumerations(call, "Family")

    def getDefaultZ(self, call: Call) -> int:
        """The plane shown first."""
        return self._chosen().z

    def getDefaultT(self, call: Call) -> int:
        """The timepoint shown first."""
        return self._chosen().t

    def setDefaultZ(self, call: Call, z: int) -> None:
        """The plane shown first."""
        self._chosen().z = z

    def setDefaultT(self, call: Call, t: int) -> None:
        """The timepoint shown first."""
        self._chosen().t = t

    def setCodomainInterval(self, call: Call, low: int, high: int) -> None:
        """The range of the output."""
        self._chosen().low, self._chosen().high = low, high

    def setQuantumStrategy(self, call: Call, bits: int) -> None:
        """The resolution of the output."""
        self._chosen().bits = bits

    def getQuantumDef(self, call: Call) -> Any:
        """Range and resolution of the output."""
        settings, found = self._chosen(), omero.model.QuantumDefI()
        found.cdStart, found.cdEnd = omero.rtypes.rint(settings.low), omero.rtypes.rint(settings.high)
        found.bitResolution = omero.rtypes.rint(settings.bits)
        return found

    def isPixelsTypeSigned(self, call: Call) -> bool:
        """Whether values may be negative."""
        return shape_of(self.server, call, self._image().id).kind in ("int8", "int16", "int32", "float", "double")

    def getPixelsTypeLowerBound(self, call: Call, channel: int) -> float:
        """The least value of the type."""
        return rendering_settings.limits(shape_of(self.server, call, self._image().id).kind)[0]

    def getPixelsTypeUpperBound(self, call: Call, channel: int) -> float:
        """The greatest value of the type."""
        return rendering_settings.limits(shape_of(self.server, call, self._image().id).kind)[1]

    # -- settings of a channel ----------------------------------------------------------------------------------------
    def isActive(self, call: Call, channel: int) -> bool:
        """Whether the channel is shown."""
        return self._channel(channel).active

    def setActive(self, call: Call, channel: int, active: bool) -> None:
        """Show the channel or not."""
        self._channel(channel).active = active

    def getRGBA(self, call: Call, channel: int) -> list[int]:
        """The channel's colour."""
        return list(self._channel(channel).color)

    def setRGBA(self, call: Call, channel: int, red: int, green: int, blue: int, alpha: int) -> None:
        """The channel's colour."""
        self._channel(channel).color = (red, green, blue, alpha)

    def getChannelWindowStart(self, call: Call, channel: int) -> float:
        """The value that is shown as dark."""
        return self._channel(channel).start

    def getChannelWindowEnd(self, call: Call, channel: int) -> float:
        """The value that is shown as bright."""
        return self._channel(channel).end

    def setChannelWindow(self, call: Call, channel: int, start: float, end: float) -> None:
        """The values that are shown as dark and as bright."""
        found = self._channel(channel)
        found.start, found.end = start, end

    def getChannelFamily(self, call: Call, channel: int) -> Any:
        """How values are mapped."""
        return self._enumeration(call, "Family", self._channel(channel).family)

    def getChannelCurveCoefficient(self, call: Call, channel: int) -> float:
        """How much the mapping is bent."""
        return self._channel(channel).coefficient

    def getChannelNoiseReduction(self, call: Call, channel: int) -> bool:
        """Stored, without effect."""
        return self._channel(channel).noise

    def setQuantizationMap(self, call: Call, channel: int, family: Any, coefficient: float, noise: bool) -> None:
        """How values are mapped."""
        found = self._channel(channel)
        with self.server.graph.transaction(context_of(call)) as tx:
            found.family = tx.get("Family", family.id.val).get("value")
        found.coefficient, found.noise = coefficient, noise

    def getChannelStats(self, call: Call, channel: int) -> list[float]:
        """Least and greatest value of the channel."""
        self._channel(channel)
        with self.server.graph.transaction(context_of(call)) as tx:
            return list(_window(tx, self._image(), channel))

    def getChannelLookupTable(self, call: Call, channel: int) -> str:
        """Name of the channel's lookup table, empty without one."""
        return self._channel(channel).lookup_table or ""

    def setChannelLookupTable(self, call: Call, channel: int, name: str) -> None:
        """Take the lookup table away; there are none here to set."""
        found = self._channel(channel)
        if name:
            raise errors.not_implemented("omero.api.RenderingEngine", "setChannelLookupTable")
        found.lookup_table = None

    def addCodomainMapToChannel(self, call: Call, change: Any, channel: int) -> None:
        """Reverse the channel's intensity; other changes are refused."""
        self._check_reverse(change)
        self._channel(channel).reverse = True

    def removeCodomainMapFromChannel(self, call: Call, change: Any, channel: int) -> None:
        """Do not reverse the channel's intensity."""
        self._check_reverse(change)
        self._channel(channel).reverse = False

    def getCodomainMapContext(self, call: Call, channel: int) -> list[Any]:
        """What is done to the channel's output."""
        return [omero.model.ReverseIntensityContextI()] if self._channel(channel).reverse else []

    @staticmethod
    def _check_reverse(change: Any) -> None:
        if not isinstance(change, omero.romio.ReverseIntensityMapContext):
            raise errors.not_implemented("omero.api.RenderingEngine", f"codomain map {type(change).__name__}")

    # -- keeping ------------------------------------------------------------------------------------------------------
    def saveCurrentSettings(self, call: Call) -> None:
        """Keep the settings as the caller's own."""
        own = self._stored if self._stored is not None and self._stored.owner == call.user_id else None
        self._stored = rendering_settings.write(call, self._image(), self._chosen(), own)

    def saveAsNewSettings(self, call: Call) -> int:
        """Keep the settings as new ones of the caller's; returns their id."""
        self._stored = rendering_settings.write(call, self._image(), self._chosen())
        return self._stored.id

    def resetDefaultSettings(self, call: Call, save: bool) -> int:
        """Begin again with the defaults; returns the id of the settings if they are saved."""
        self._check_planes()
        with self.server.graph.transaction(context_of(call)) as tx:
            self._settings = rendering_settings.defaults(tx, self._image())
        if not save:
            return -1
        self.saveCurrentSettings(call)
        return self.getRenderingDefId(call)

    # -- resolutions --------------------------------------------------------------------------------------------------
    def requiresPixelsPyramid(self, call: Call) -> bool:
        """Never."""
        self._image()
        return False

    def getResolutionLevels(self, call: Call) -> int:
        """One."""
        self._planes()
        return 1

    def getResolutionLevel(self, call: Call) -> int:
        """The only one."""
        self._planes()
        return 0

    def getResolutionDescriptions(self, call: Call) -> list[Any]:
        """The plane itself."""
        shape, found = self._planes().shape, omero.api.ResolutionDescription()
        found.sizeX, found.sizeY = shape.x, shape.y
        return [found]

    def getTileSize(self, call: Call) -> list[int]:
        """The whole plane."""
        return [self._planes().shape.x, self._planes().shape.y]


def _window(tx: Any, pixels: Entity, channel: int) -> tuple[float, float]:
    found = rendering_settings.defaults(tx, pixels).channels[channel]
    return found.start, found.end
