"""IMetadata: annotations of objects, tags, and how images were acquired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import omero
import omero.api
import omero.clients
from omero.rtypes import rlong

from omero_stand_in.context import Call
from omero_stand_in.graph.entity import Entity

from .graph_service import GraphService, find_all

if TYPE_CHECKING:
    from omero_stand_in.graph.loading import Loader
    from omero_stand_in.graph.transaction import Transaction

TAG_SET = "openmicroscopy.org/omero/insight/tagset"
CHANNEL = (
    "select lc from LogicalChannel lc left outer join fetch lc.detectorSettings ds "
    "left outer join fetch ds.detector left outer join fetch lc.lightSourceSettings ls "
    "left outer join fetch ls.lightSource left outer join fetch lc.filterSet left outer join fetch lc.lightPath "
    "left outer join fetch lc.mode left outer join fetch lc.illumination left outer join fetch lc.contrastMethod "
    "where lc.id in (:ids)"
)


class MetadataService(GraphService):
    """What is attached to objects."""

    interface = omero.api.IMetadata

    def loadAnnotations(
        self, call: Call, root: str, ids: list[int], kinds: list[str], annotators: list[int], options: Any
    ) -> dict[int, list[Any]]:
        with self.transaction(call) as tx:
            name, wanted = tx.cls(root).name, [tx.cls(kind).name for kind in kinds or ()]
            loader, answer = tx.loader(), {}
            for identifier in ids:
                entity = tx.find(name, identifier)
                if entity is None:
                    continue
                links = tx.members(entity, "annotationLinks")
                if annotators:
                    links = [link for link in links if link.owner in annotators]
                    if not links:
                        continue
                answer[identifier] = [one for one in _children(tx, links) if _is_one_of(one, wanted)]
            return {key: [_loaded(tx, loader, one) for one in found] for key, found in answer.items()}

    def loadAnnotation(self, call: Call, ids: list[int]) -> list[Any]:
        with self.transaction(call) as tx:
            loader = tx.loader()
            found = [one for number in ids if (one := tx.find("Annotation", number)) is not None]
            return [_loaded(tx, loader, one) for one in found]

    def loadSpecifiedAnnotations(
        self, call: Call, kind: str, include: list[str], exclude: list[str], options: Any
    ) -> list[Any]:
        with self.transaction(call) as tx:
            loader = tx.loader()
            return [_loaded(tx, loader, one) for one in _specified(tx, kind, include, exclude, options)]

    def countSpecifiedAnnotations(
        self, call: Call, kind: str, include: list[str], exclude: list[str], options: Any
    ) -> Any:
        with self.transaction(call) as tx:
            return rlong(len(_specified(tx, kind, include, exclude, options)))

    def loadSpecifiedAnnotationsLinkedTo(
        self,
        call: Call,
        kind: str,
        include: list[str],
        exclude: list[str],
        root: str,
        ids: list[int],
        options: Any,
    ) -> dict[int, list[Any]]:
        with self.transaction(call) as tx:
            loader, answer = tx.loader(), {}
            chosen = {one.id for one in _specified(tx, kind, include, exclude, options)}
            for identifier in ids:
                entity = tx.find(root, identifier)
                if entity is None:
                    continue
                found = [one for one in _children(tx, tx.members(entity, "annotationLinks")) if one.id in chosen]
                if found:
                    answer[identifier] = [_loaded(tx, loader, one) for one in found]
            return answer

    # -- tags -------------------------------------------------------------------------------------------------------
    def loadTagSets(self, call: Call, options: Any) -> list[Any]:
        with self.transaction(call) as tx:
            loader = tx.loader()
            sets = [one for one in tx.where("TagAnnotation", ns=TAG_SET) if _of_owner(one, options)]
            for one in sets:
                loader.collect(one, "annotationLinks")
                for link in tx.members(one, "annotationLinks"):
                    loader.fetch(link)
                    loader.fetch(tx.target(link, "child"))
            return [_loaded(tx, loader, one) for one in sets]

    def loadTagContent(self, call: Call, ids: list[int], options: Any) -> dict[int, list[Any]]:
        with self.transaction(call) as tx:
            loader, answer = tx.loader(), {}
            for identifier in ids:
                tagged = [one for one in _tagged(tx, identifier) if one.cls.name in ("Image", "Dataset", "Project")]
                for one in tagged:
                    loader.fetch(one)
                answer[identifier] = [loader.map(one) for one in tagged]
            return answer

    def getTaggedObjectsCount(self, call: Call, ids: list[int], options: Any) -> dict[int, int]:
        with self.transaction(call) as tx:
            return {identifier: len(_tagged(tx, identifier)) for identifier in ids}

    # -- others' annotations ----------------------------------------------------------------------------------------
    def loadAnnotationsUsedNotOwned(self, call: Call, kind: str, user: int) -> list[Any]:
        with self.transaction(call) as tx:
            loader = tx.loader()
            return [_loaded(tx, loader, one) for one in _used(tx, kind, user)]

    def countAnnotationsUsedNotOwned(self, call: Call, kind: str, user: int) -> Any:
        with self.transaction(call) as tx:
            return rlong(len(_used(tx, kind, user)))

    # -- acquisition ------------------------------------------------------------------------------------------------
    def loadChannelAcquisitionData(self, call: Call, ids: list[int]) -> list[Any]:
        with self.transaction(call) as tx:
            return find_all(tx, CHANNEL, ids=list(ids))


def _children(tx: Transaction, links: list[Entity]) -> list[Entity]:
    """What links lead to, as far as it is visible, each once."""
    found = {one.id: one for link in links if (one := tx.target(link, "child")) is not None and tx.readable(one)}
    return sorted(found.values(), key=lambda one: one.id)


def _is_one_of(entity: Entity, kinds: list[str]) -> bool:
    return not kinds or any(entity.cls.is_a(kind) for kind in kinds)


def _loaded(tx: Transaction, loader: Loader, entity: Entity) -> Any:
    """An annotation with its details and its file loaded."""
    loader.fetch(entity)
    loader.fetch(tx.graph.tables["Experimenter"].get(entity.details["owner"]))
    for mark in ("creationEvent", "updateEvent"):
        loader.fetch(tx.graph.tables["Event"].get(entity.details[mark]))
    if entity.cls.name == "FileAnnotation":
        loader.fetch(tx.target(entity, "file"))
    return loader.map(entity)


def _of_owner(entity: Entity, options: Any) -> bool:
    chosen = options.theFilter.ownerId if options is not None and options.theFilter is not None else None
    return chosen is None or chosen.val < 0 or entity.owner == chosen.val


def _specified(tx: Transaction, kind: str, include: list[str], exclude: list[str], options: Any) -> list[Entity]:
    found = [one for one in tx.rows(tx.cls(kind).name) if _of_owner(one, options)]
    if include:
        found = [one for one in found if one.get("ns") in include]
    return [one for one in found if one.get("ns") not in exclude] if exclude else found


def _tagged(tx: Transaction, tag: int) -> list[Entity]:
    """Everything that an annotation is attached to, other annotations left out."""
    found = []
    for cls in tx.graph.schema.classes.values():
        if cls.is_link and cls.name.endswith("AnnotationLink") and cls.name != "AnnotationAnnotationLink":
            links = tx.where(cls.name, child=tag)
            found += [one for link in links if (one := tx.target(link, "parent")) is not None]
    return found


def _used(tx: Transaction, kind: str, user: int) -> list[Entity]:
    """Annotations of others that a user has attached to something."""
    used: dict[int, Entity] = {}
    for cls in tx.graph.schema.classes.values():
        if cls.is_link and cls.name.endswith("AnnotationLink"):
            links = [link for link in tx.rows(cls.name) if link.owner == user]
            used.update({one.id: one for one in _children(tx, links)})
    return [one for one in used.values() if one.owner != user and one.cls.is_a(tx.cls(kind).name)]
