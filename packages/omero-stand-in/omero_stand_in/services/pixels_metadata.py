"""IPixels: images made from numbers, and what is known of pixels apart from their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import omero
import omero.api
import omero.clients
from omero.rtypes import rlong

from omero_stand_in import errors, rendering_settings
from omero_stand_in.context import Call
from omero_stand_in.graph.entity import Entity

from .graph_service import GraphService, find_all
from .types import TypesService

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction

DESCRIPTION = (
    "select p from Pixels p join fetch p.image i left outer join fetch p.pixelsType "
    "left outer join fetch p.dimensionOrder left outer join fetch p.channels c left outer join fetch c.statsInfo "
    "left outer join fetch c.logicalChannel lc left outer join fetch lc.photometricInterpretation "
    "left outer join fetch lc.illumination left outer join fetch lc.mode left outer join fetch lc.contrastMethod "
    "where p.id = :id"
)
#: What a copy of pixels takes over from its source.
COPIED = (
    "pixelsType", "dimensionOrder", "physicalSizeX", "physicalSizeY", "physicalSizeZ", "timeIncrement",
    "significantBits",
)  # fmt: skip


class PixelsService(GraphService):
    """Images and pixels as rows; their values are RawPixelsStore's."""

    interface = omero.api.IPixels

    def retrievePixDescription(self, call: Call, identifier: int) -> Any:
        with self.transaction(call) as tx:
            found = find_all(tx, DESCRIPTION, id=identifier)
            return found[0] if found else None

    def retrieveRndSettings(self, call: Call, pixels: int) -> Any:
        return self.retrieveRndSettingsFor(call, pixels, call.user_id)

    def retrieveRndSettingsFor(self, call: Call, pixels: int, user: int) -> Any:
        with self.transaction(call) as tx:
            found = rendering_settings.settings_of(tx, tx.get("Pixels", pixels), user)
            return None if found is None else rendering_settings.loaded(tx, found)

    def retrieveAllRndSettings(self, call: Call, pixels: int, user: int) -> list[Any]:
        with self.transaction(call) as tx:
            found = tx.members(tx.get("Pixels", pixels), "settings")
            return [rendering_settings.loaded(tx, one) for one in found if user < 0 or one.owner == user]

    def loadRndSettings(self, call: Call, identifier: int) -> Any:
        with self.transaction(call) as tx:
            found = tx.find("RenderingDef", identifier)
            return None if found is None else rendering_settings.loaded(tx, found)

    def getBitDepth(self, call: Call, kind: Any) -> int:
        with self.transaction(call) as tx:
            return int(tx.get("PixelsType", kind.id.val).get("bitSize"))

    def getEnumeration(self, call: Call, name: str, value: str) -> Any:
        return TypesService.getEnumeration(self, call, name, value)  # type: ignore[arg-type]

    def getAllEnumerations(self, call: Call, name: str) -> list[Any]:
        return TypesService.allEnumerations(self, call, name)  # type: ignore[arg-type]

    def createImage(
        self,
        call: Call,
        size_x: int,
        size_y: int,
        size_z: int,
        size_t: int,
        channels: list[int],
        kind: Any,
        name: str,
        description: str,
    ) -> Any:
        if not channels:
            raise errors.validation("Channel list must be filled.")
        for axis, size in (("X", size_x), ("Y", size_y), ("Z", size_z), ("T", size_t)):
            if size <= 0:
                raise errors.api_usage(f"values of Pixels.size{axis} must be strictly positive")
        if kind is None:
            raise errors.validation(
                "not-null property references a null or transient value: ome.model.core.Pixels.pixelsType"
            )
        sizes = {"sizeX": size_x, "sizeY": size_y, "sizeZ": size_z, "sizeT": size_t, "sizeC": len(channels)}
        with self.transaction(call) as tx:
            _may_create(call)
            image = tx.insert("Image", name=name, description=description, series=0)
            values = {**sizes, "pixelsType": kind.id.val, "dimensionOrder": tx.enum("DimensionOrder", "XYZCT")}
            pixels = tx.insert("Pixels", image=image.id, sha1="Pending...", **values, **{"pixels#": 0})
            for place in range(len(channels)):
                logical = tx.insert("LogicalChannel")
                tx.insert("Channel", pixels=pixels.id, logicalChannel=logical.id, **{"channels#": place})
            return rlong(image.id)

    def setChannelGlobalMinMax(self, call: Call, pixels: int, channel: int, low: float, high: float) -> None:
        with self.transaction(call) as tx:
            entity = tx.get("Pixels", pixels)
            channels = tx.members(entity, "channels")
            if not 0 <= channel < len(channels):
                raise errors.internal(
                    " Wrapped Exception: (java.lang.IndexOutOfBoundsException):\n"
                    f"Index: {channel}, Size: {len(channels)}"
                )
            if not tx.can(entity, "edit"):
                raise errors.security(f"Updating {entity.java} not allowed.")
            target = channels[channel]
            if target.get("statsInfo") is None:
                stats = tx.insert("StatsInfo", globalMin=low, globalMax=high)
                tx.change(target, statsInfo=stats.id)
            else:
                tx.change(tx.get("StatsInfo", target.get("statsInfo")), globalMin=low, globalMax=high)
            tx.change(entity)

    def copyAndResizeImage(
        self,
        call: Call,
        source: int,
        size_x: Any,
        size_y: Any,
        size_z: Any,
        size_t: Any,
        channels: list[int],
        methodology: str,
        copy_stats: bool,
    ) -> Any:
        with self.transaction(call) as tx:
            image = tx.get("Image", source)
            found = tx.members(image, "pixels")
            _check_channels(tx, found[0], channels)
            given = {"name": methodology or image.get("name"), "description": image.get("description"), "series": 0}
            copy = tx.insert("Image", **given)
            sizes = {"X": size_x, "Y": size_y, "Z": size_z, "T": size_t}
            _copy_pixels(tx, found[0], copy, sizes, channels, copy_stats)
            return rlong(copy.id)

    def copyAndResizePixels(
        self,
        call: Call,
        source: int,
        size_x: Any,
        size_y: Any,
        size_z: Any,
        size_t: Any,
        channels: list[int],
        methodology: str,
        copy_stats: bool,
    ) -> Any:
        with self.transaction(call) as tx:
            pixels = tx.get("Pixels", source)
            _check_channels(tx, pixels, channels)
            sizes = {"X": size_x, "Y": size_y, "Z": size_z, "T": size_t}
            image = tx.get("Image", pixels.get("image"))
            copy = _copy_pixels(tx, pixels, image, sizes, channels, copy_stats, methodology)
            return rlong(copy.id)


def _may_create(call: Call) -> None:
    if call.group_id < 0:
        raise errors.api_usage(
            "No valid permissions available! DUMMY permissions are not intended for copying. "
            "Make sure that you have not passed omero.group=-1 for a save without context"
        )


def _check_channels(tx: Transaction, pixels: Entity, channels: list[int] | None) -> None:
    if channels is not None and not channels:
        raise errors.validation("Channel List is not null but size == 0")
    count = len(tx.members(pixels, "channels"))
    for place, channel in enumerate(channels or ()):
        if not 0 <= channel < count:
            raise errors.validation(f"channel: {place} out of bounds")


def _copy_pixels(
    tx: Transaction,
    source: Entity,
    image: Entity,
    sizes: dict[str, Any],
    channels: list[int] | None,
    copy_stats: bool,
    methodology: str | None = None,
) -> Entity:
    """Pixels of other sizes with the channels chosen; their values stay to be written."""
    found = tx.members(source, "channels")
    chosen = found if channels is None else [found[channel] for channel in channels]
    values = {name: source.get(name) for name in COPIED}
    for axis, size in sizes.items():
        values["size" + axis] = source.get("size" + axis) if size is None else size.val
    place = len(tx.members(image, "pixels"))
    copy = tx.insert(
        "Pixels",
        image=image.id,
        sha1="Pending...",
        sizeC=len(chosen),
        methodology=methodology,
        relatedTo=source.id,
        **values,
        **{"pixels#": place},
    )
    for number, channel in enumerate(chosen):
        logical = tx.get("LogicalChannel", channel.get("logicalChannel"))
        taken = {name: channel.get(name) for name in ("red", "green", "blue", "alpha")}
        if copy_stats and channel.get("statsInfo") is not None:
            stats = tx.get("StatsInfo", channel.get("statsInfo"))
            taken["statsInfo"] = tx.insert("StatsInfo", **dict(stats.values)).id
        copied = tx.insert("LogicalChannel", **dict(logical.values))
        tx.insert("Channel", pixels=copy.id, logicalChannel=copied.id, **taken, **{"channels#": number})
    return copy
