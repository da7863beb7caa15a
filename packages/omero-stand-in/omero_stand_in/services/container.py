"""IContainer: hierarchies of projects, datasets, screens and plates, and their images."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import omero
import omero.api
import omero.clients

from omero_stand_in import errors, hql
from omero_stand_in.context import Call
from omero_stand_in.graph.entity import Entity
from omero_stand_in.graph.loading import Loader
from omero_stand_in.graph.scan import page

from .graph_service import GraphService, find_all, parameters

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction

IMAGES = (
    "select distinct img from Image img left outer join fetch img.details.creationEvent "
    "left outer join fetch img.details.updateEvent left outer join fetch img.pixels pix "
    "left outer join fetch pix.pixelsType {joins} where {where} order by img.id"
)
#: Where the images of a kind of container are.
IMAGES_OF = {
    "Image": ("", "img.id in (:ids)"),
    "Dataset": ("join img.datasetLinks dl", "dl.parent.id in (:ids)"),
    "Project": ("join img.datasetLinks dl join dl.parent ds join ds.projectLinks pl", "pl.parent.id in (:ids)"),
    "Plate": ("join img.wellSamples ws join ws.well w", "w.plate.id in (:ids)"),
    "Well": ("join img.wellSamples ws", "ws.well.id in (:ids)"),
}
#: Collection of links from a container to what is in it, and the class of that.
BELOW = {"Project": ("datasetLinks", "Dataset"), "Dataset": ("imageLinks", "Image"), "Screen": ("plateLinks", "Plate")}
ROOTS = ("Project", "Dataset", "Screen", "Plate")


class ContainerService(GraphService):
    """Containers as trees."""

    interface = omero.api.IContainer

    def getImages(self, call: Call, kind: str, ids: list[int], options: Any) -> list[Any]:
        with self.transaction(call) as tx:
            name = tx.cls(kind).name
            if name not in IMAGES_OF:
                raise errors.api_usage(f"Unhandled type: {kind}")
            if not ids:
                raise errors.api_usage("Set of ids may not be empty")
            joins, where = IMAGES_OF[name]
            return _page(find_all(tx, IMAGES.format(joins=joins, where=where), ids=list(ids)), options)

    def getUserImages(self, call: Call, options: Any) -> list[Any]:
        user = options.theFilter.ownerId.val if options is not None and options.theFilter.ownerId else call.user_id
        with self.transaction(call) as tx:
            text = IMAGES.format(joins="", where="img.details.owner.id = :user")
            return _page(find_all(tx, text, user=user), options)

    def getImagesByOptions(self, call: Call, options: Any) -> list[Any]:
        if options is None or (options.theFilter.startTime is None and options.theFilter.endTime is None):
            raise errors.api_usage("start or end time required for getImagesByOptions().")
        given = {}
        where = ["1 = 1"]
        for name, operator, value in (
            ("start", ">", options.theFilter.startTime),
            ("end", "<", options.theFilter.endTime),
        ):
            if value is not None:
                where.append(f"img.details.creationEvent.time {operator} :{name}")
                given[name] = value
        with self.transaction(call) as tx:
            return _page(find_all(tx, IMAGES.format(joins="", where=" and ".join(where)), **given), options)

    def getImagesBySplitFilesets(self, call: Call, included: dict[str, list[int]], options: Any) -> Any:
        with self.transaction(call) as tx:
            chosen = {one.id.val for kind, ids in included.items() for one in _images_below(tx, kind, ids)}
            answer: dict[int, dict[bool, list[int]]] = {}
            for fileset in {tx.get("Image", one).get("fileset") for one in chosen} - {None}:
                members = [one.id for one in tx.where("Image", fileset=fileset)]
                inside = sorted(set(members) & chosen)
                outside = sorted(set(members) - chosen)
                if inside and outside:
                    answer[fileset] = {True: inside, False: outside}
            return answer

    def getCollectionCount(self, call: Call, kind: str, field: str, ids: list[int], options: Any) -> dict[int, int]:
        with self.transaction(call) as tx:
            cls = tx.cls(kind)
            name = field.rpartition("_")[2]
            known = cls.fields.get(name)
            if known is None or known.kind != "collection":
                raise errors.api_usage(f"{cls.java}.{name} is an unknown property on type {cls.java}")
            answer = {}
            for identifier in ids:
                entity = tx.find(kind, identifier)
                answer[identifier] = 0 if entity is None else len(tx.members(entity, name))
            return answer

    def loadContainerHierarchy(self, call: Call, kind: str, ids: list[int], options: Any) -> list[Any]:
        leaves = options is not None and options.theOptions is not None and _true(options.theOptions.leaves)
        orphans = options is not None and options.theOptions is not None and _true(options.theOptions.orphan)
        with self.transaction(call) as tx:
            name = tx.cls(kind).name
            if name not in ROOTS:
                raise errors.api_usage(f"Unknown container class: {kind}")
            roots = [one for number in ids if (one := tx.find(name, number))] if ids else _of(tx, name, options)
            tree = _Tree(tx, leaves)
            for root in roots:
                tree.grow(root, top=True)
            found = [tree.loader.map(one) for one in roots]
            if orphans and name in BELOW:
                found += self._orphans(tx, name, options, tree)
            for entity in tree.containers:
                _count(tx, tree.loader, entity)
            return found

    def _orphans(self, tx: Transaction, name: str, options: Any, tree: _Tree) -> list[Any]:
        _, below = BELOW[name]
        link = f"{name}{below}Link"
        alone = [one for one in _of(tx, below, options) if not tx.where(link, child=one.id)]
        for one in alone:
            tree.grow(one)
        return [tree.loader.map(one) for one in alone]

    def findContainerHierarchies(self, call: Call, kind: str, ids: list[int], options: Any) -> list[Any]:
        with self.transaction(call) as tx:
            name = tx.cls(kind).name
            if name != "Project":
                raise errors.api_usage(
                    f"findContainerHierarchies of {kind} is not implemented by the stand-in OMERO server"
                )
            text = (
                "select distinct p from Project p join fetch p.datasetLinks pl join fetch pl.child d "
                "join fetch d.imageLinks dl join fetch dl.child i where i.id in (:ids)"
            )
            return find_all(tx, text, ids=list(ids))

    # -- saving -----------------------------------------------------------------------------------------------------
    def createDataObject(self, call: Call, thing: Any, options: Any) -> Any:
        with self.transaction(call) as tx:
            return tx.save(thing)

    def createDataObjects(self, call: Call, things: list[Any], options: Any) -> list[Any]:
        with self.transaction(call) as tx:
            return tx.save_all(things)

    def updateDataObject(self, call: Call, thing: Any, options: Any) -> Any:
        return self.createDataObject(call, thing, options)

    def updateDataObjects(self, call: Call, things: list[Any], options: Any) -> list[Any]:
        return self.createDataObjects(call, things, options)

    def link(self, call: Call, links: list[Any], options: Any) -> list[Any]:
        return self.createDataObjects(call, links, options)

    def unlink(self, call: Call, links: list[Any], options: Any) -> None:
        with self.transaction(call) as tx:
            for link in links:
                entity = tx.get(tx.graph.schema.of(link).name, link.id.val)
                if not tx.can(entity, "delete"):
                    raise errors.security(f"Deleting {entity.java} not allowed.")
                tx.remove(entity)


class _Tree:
    """A hierarchy while it is being loaded."""

    def __init__(self, tx: Transaction, leaves: bool) -> None:
        self.tx, self.leaves = tx, leaves
        self.loader = tx.loader()
        self.containers: list[Entity] = []

    def grow(self, entity: Entity, top: bool = False) -> None:
        """Load an object and what is below it."""
        name = entity.cls.name
        self.loader.fetch(entity)
        if top or name in ("Image", "Plate"):
            self._events(entity)
        if name == "Plate":
            self.loader.collect(entity, "plateAcquisitions")
            for one in self.tx.members(entity, "plateAcquisitions"):
                self.loader.fetch(one)
        if name == "Image":
            self._image(entity)
        if name not in BELOW:
            return
        self.containers.append(entity)
        collection, below = BELOW[name]
        if below == "Image" and not self.leaves:
            return
        self.loader.collect(entity, collection)
        for link in self.tx.members(entity, collection):
            self.loader.fetch(link)
            child = self.tx.target(link, "child")
            if child is not None:
                self.grow(child)

    def _events(self, entity: Entity) -> None:
        events = self.tx.graph.tables["Event"]
        self.loader.fetch(events.get(entity.details["creationEvent"]))
        self.loader.fetch(events.get(entity.details["updateEvent"]))

    def _image(self, entity: Entity) -> None:
        self.loader.collect(entity, "pixels")
        for pixels in self.tx.members(entity, "pixels"):
            self.loader.fetch(pixels)
            self.loader.fetch(self.tx.target(pixels, "pixelsType"))


def _count(tx: Transaction, loader: Loader, entity: Entity) -> None:
    """Number of links per owner, which containers have although their links are not loaded."""
    thing = loader.map(entity)
    for field in entity.cls.fields.values():
        if field.kind == "collection" and hasattr(thing, f"_{field.name}CountPerOwner"):
            owners = Counter(link.owner for link in tx.members(entity, field.name))
            setattr(thing, f"_{field.name}CountPerOwner", dict(owners))


def _of(tx: Transaction, name: str, options: Any) -> list[Entity]:
    """All objects of a class, or those of an owner."""
    owner = options.theFilter.ownerId if options is not None and options.theFilter is not None else None
    if owner is None or owner.val < 0:
        return list(tx.rows(name))
    result = hql.run(tx, f"select x from {name} x where x.details.owner.id = :id", parameters(id=owner.val))
    return [row[0] for row in result.rows]


def _images_below(tx: Transaction, kind: str, ids: list[int]) -> list[Any]:
    joins, where = IMAGES_OF[tx.cls(kind).name]
    return find_all(tx, IMAGES.format(joins=joins, where=where), ids=list(ids))


def _page(found: list[Any], options: Any) -> list[Any]:
    return page(found, options.theFilter if options is not None else None)


def _true(value: Any) -> bool:
    return value is not None and bool(value.val)
