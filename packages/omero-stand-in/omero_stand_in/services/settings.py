"""IRenderingSettings: how many images at once are shown."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients

from omero_stand_in import errors, rendering, rendering_settings
from omero_stand_in.context import Call, context_of
from omero_stand_in.graph import Entity
from omero_stand_in.graph_walk import Walk
from omero_stand_in.servant import Service


class RenderingSettingsService(Service):
    """Settings of many images at once."""

    interface = omero.api.IRenderingSettings

    def getRenderingSettings(self, call: Call, pixels: int) -> Any:
        """The caller's settings, or the owner's; null if there are none."""
        with self.server.graph.transaction(context_of(call)) as tx:
            found = rendering_settings.settings_of(tx, tx.get("Pixels", pixels), call.user_id)
            return None if found is None else rendering_settings.loaded(tx, found)

    def resetDefaultsInSet(self, call: Call, kind: str, numbers: list[int]) -> list[int]:
        """Back to the defaults; returns the ids of the images."""
        return [image.id for image in self._each(call, kind, numbers, self._reset)]

    def resetDefaultsInImage(self, call: Call, number: int) -> None:
        """Back to the defaults."""
        self._each(call, "Image", [number], self._reset)

    def resetDefaultsForPixels(self, call: Call, number: int) -> None:
        """Back to the defaults."""
        self._each(call, "Pixels", [number], self._reset)

    def resetDefaultsInDataset(self, call: Call, number: int) -> list[int]:
        """Back to the defaults; returns the ids of the images."""
        return self.resetDefaultsInSet(call, "Dataset", [number])

    def applySettingsToSet(self, call: Call, source: int, kind: str, numbers: list[int]) -> dict[bool, list[int]]:
        """The settings of one Pixels for all; images with other channels are left as they are."""
        with self.server.graph.transaction(context_of(call)) as tx:
            given = tx.get("Pixels", source)
            stored = rendering_settings.settings_of(tx, given, call.user_id)
            settings = rendering_settings.defaults(tx, given) if stored is None else rendering_settings.read(tx, stored)
        answer: dict[bool, list[int]] = {True: [], False: []}

        def apply(tx: Any, pixels: Entity) -> None:
            fits = pixels.get("sizeC") == len(settings.channels)
            answer[fits].append(pixels.get("image"))
            if fits:
                own = _own(tx, pixels, call.user_id)
                z, t = min(settings.z, pixels.get("sizeZ") - 1), min(settings.t, pixels.get("sizeT") - 1)
                changed = rendering.Settings(settings.channels, z, t, settings.model, settings.low, settings.high)
                rendering_settings.write(call, pixels, changed, own)

        self._each(call, kind, numbers, apply)
        return answer

    def applySettingsToImages(self, call: Call, source: int, numbers: list[int]) -> dict[bool, list[int]]:
        """As `applySettingsToSet`."""
        return self.applySettingsToSet(call, source, "Image", numbers)

    def applySettingsToImage(self, call: Call, source: int, number: int) -> bool:
        """As `applySettingsToSet`; whether it was done."""
        return bool(self.applySettingsToSet(call, source, "Image", [number])[True])

    def _reset(self, tx: Any, pixels: Entity) -> None:
        own = _own(tx, pixels, Call.now().user_id)
        rendering_settings.write(Call.now(), pixels, rendering_settings.defaults(tx, pixels), own)

    def _each(self, call: Call, kind: str, numbers: list[int], act: Any) -> list[Entity]:
        """Do something to the Pixels of the images named, or of those in the containers named."""
        done: list[Entity] = []
        with self.server.graph.transaction(context_of(call)) as tx:
            short = tx.cls(kind).name
            for number in numbers:
                for pixels in _pixels_below(tx, tx.get(short, number)):
                    act(tx, pixels)
                    done.append(tx.get("Image", pixels.get("image")))
        return done


def _own(tx: Any, pixels: Entity, user: int) -> Entity | None:
    found = rendering_settings.settings_of(tx, pixels, user)
    return found if found is not None and found.owner == user else None


def _pixels_below(tx: Any, entity: Entity) -> list[Entity]:
    if entity.cls.name == "Pixels":
        return [entity]
    if entity.cls.name == "Image":
        return list(tx.members(entity, "pixels")[:1])
    if entity.cls.name not in ("Dataset", "Project", "Plate", "Screen"):
        raise errors.not_implemented("omero.api.IRenderingSettings", f"settings of a {entity.cls.name}")
    walk, found, seen, waiting = Walk(tx), [], set(), [entity]
    while waiting:
        for child in walk.children(waiting.pop()):
            if child.cls.name == "Image" and child.id not in seen and tx.readable(child):
                seen.add(child.id)
                found.extend(tx.members(child, "pixels")[:1])
            elif child.cls.name in ("Dataset", "Plate", "Well", "WellSample"):
                waiting.append(child)
    return found
