"""Rendering settings as objects of the graph: found, made, changed, and turned into `rendering.Settings` and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy

from . import errors, rendering
from .context import Call, context_of
from .plane_files import TYPES

if TYPE_CHECKING:
    from .graph import Entity
    from .graph.transaction import Transaction


def settings_of(tx: Transaction, pixels: Entity, user: int) -> Entity | None:
    """The user's settings for the Pixels, else those of the owner of the Pixels; the newest of several."""
    found = tx.members(pixels, "settings")
    for owner in (user, pixels.owner):
        own = [one for one in found if one.owner == owner]
        if own:
            return own[-1]
    return None


def loaded(tx: Transaction, settings: Entity) -> Any:
    """The RenderingDef as IPixels.retrieveRndSettings hands it out, with bindings, model and quantization."""
    loader = tx.loader()
    for name in ("model", "quantization"):
        loader.fetch(tx.target(settings, name))
    loader.fetch(settings)
    loader.fetch(tx.raw("Experimenter", settings.owner or 0))
    loader.fetch(tx.raw("ExperimenterGroup", settings.group or 0))
    for collection in ("waveRendering", "projections"):
        loader.collect(settings, collection)
    for binding in tx.members(settings, "waveRendering"):
        loader.fetch(binding)
        loader.fetch(tx.target(binding, "family"))
        loader.collect(binding, "spatialDomainEnhancement")
        for change in tx.members(binding, "spatialDomainEnhancement"):
            loader.fetch(change)
    return loader.map(settings)


def defaults(tx: Transaction, pixels: Entity) -> rendering.Settings:
    """The settings that the server makes for Pixels without any."""
    kind = tx.get("PixelsType", pixels.get("pixelsType")).get("value")
    windows: list[tuple[float, float]] = []
    colors: list[tuple[int, ...] | None] = []
    for channel in tx.members(pixels, "channels"):
        stats = tx.target(channel, "statsInfo")
        windows.append(limits(kind) if stats is None else (stats.get("globalMin"), stats.get("globalMax")))
        color = [channel.get(name) for name in ("red", "green", "blue", "alpha")]
        colors.append(None if None in color else tuple(color))
    return rendering.defaults(windows, colors, pixels.get("sizeZ"))


def limits(kind: str) -> tuple[float, float]:
    """Least and greatest value of a pixel type; floating-point types count as integers of their width."""
    name = TYPES.get(kind, "")
    if not name:
        return 0.0, 1.0
    data = numpy.dtype(name)
    info = numpy.iinfo(f"i{data.itemsize}" if data.kind == "f" else data)
    return float(info.min), float(info.max)


def read(tx: Transaction, stored: Entity) -> rendering.Settings:
    """Stored settings, to render with."""
    quantum = tx.target(stored, "quantization")
    settings = rendering.Settings(
        z=stored.get("defaultZ"),
        t=stored.get("defaultT"),
        model=tx.get("RenderingModel", stored.get("model")).get("value"),
    )
    if quantum is not None:
        settings.low, settings.high = quantum.get("cdStart"), quantum.get("cdEnd")
        settings.bits = quantum.get("bitResolution")
    for binding in tx.members(stored, "waveRendering"):
        reverse = any(
            one.cls.name == "ReverseIntensityContext" for one in tx.members(binding, "spatialDomainEnhancement")
        )
        settings.channels.append(
            rendering.Channel(
                binding.get("inputStart"),
                binding.get("inputEnd"),
                tuple(binding.get(name) for name in ("red", "green", "blue", "alpha")),
                binding.get("active"),
                tx.get("Family", binding.get("family")).get("value"),
                binding.get("coefficient"),
                binding.get("noiseReduction"),
                binding.get("lookupTable"),
                reverse,
            )
        )
    return settings


def write(call: Call, pixels: Entity, settings: rendering.Settings, stored: Entity | None = None) -> Entity:
    """Store settings as the caller's own: into those given, or as new ones."""
    graph = call.server.graph
    mine = context_of(call).in_group(pixels.group or 0)
    with graph.transaction(mine) as tx:
        if not (tx.can(pixels, "annotate") if stored is None else tx.can(stored, "edit")):
            raise errors.security(f"Cannot save rendering settings for {pixels.java}")
    with graph.transaction(mine.as_server()) as tx:
        model = tx.enum("RenderingModel", settings.model)
        values = {"defaultZ": settings.z, "defaultT": settings.t, "model": model}
        quantum = {"cdStart": settings.low, "cdEnd": settings.high, "bitResolution": settings.bits}
        if stored is None:
            made = tx.insert("QuantumDef", group=pixels.group, **quantum)
            stored = tx.insert(
                "RenderingDef", group=pixels.group, pixels=pixels.id, quantization=made.id, compression=0.85, **values
            )
        else:
            tx.change(tx.get("QuantumDef", stored.get("quantization")), **quantum)
            stored = tx.change(stored, **values)
        bindings = tx.members(stored, "waveRendering")
        for index, channel in enumerate(settings.channels):
            binding = _binding(tx, channel)
            if index < len(bindings):
                row = tx.change(bindings[index], **binding)
            else:
                place = {"waveRendering#": index}
                row = tx.insert("ChannelBinding", group=pixels.group, renderingDef=stored.id, **place, **binding)
            _reverse(tx, row, channel.reverse)
        return stored


def _binding(tx: Transaction, channel: rendering.Channel) -> dict[str, Any]:
    red, green, blue, alpha = channel.color
    return {
        "active": channel.active, "inputStart": channel.start, "inputEnd": channel.end,
        "family": tx.enum("Family", channel.family), "coefficient": channel.coefficient,
        "noiseReduction": channel.noise, "lookupTable": channel.lookup_table,
        "red": red, "green": green, "blue": blue, "alpha": alpha,
    }  # fmt: skip


def _reverse(tx: Transaction, binding: Entity, wanted: bool) -> None:
    changes = tx.members(binding, "spatialDomainEnhancement")
    found = [one for one in changes if one.cls.name == "ReverseIntensityContext"]
    if wanted and not found:
        place = {"spatialDomainEnhancement#": len(changes)}
        tx.insert("ReverseIntensityContext", group=binding.group, channelBinding=binding.id, **place)
    for one in found if not wanted else []:
        tx.remove(one)
