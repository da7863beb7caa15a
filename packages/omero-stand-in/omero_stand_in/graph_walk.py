"""What hangs together: which objects go (or move) with those that a command names.

Three kinds of reference decide. A *dependent* has no life without what it refers to (the channels of a Pixels, the
links of an image). A *shared* object goes when the last one that holds it goes (an image in its last dataset, a tag on
its last image). Any other reference is set to null, or, where it may not be null, stands in the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Entity
    from .graph.schema import ModelClass
    from .graph.store import Graph
    from .graph.transaction import Transaction

#: Fields of dependents: (class, field). Both ends of links are added below.
DEPENDENT = {
    ("Pixels", "image"),
    ("Channel", "pixels"),
    ("PlaneInfo", "pixels"),
    ("Thumbnail", "pixels"),
    ("RenderingDef", "pixels"),
    ("ChannelBinding", "renderingDef"),
    ("ProjectionDef", "renderingDef"),
    ("CodomainMapContext", "channelBinding"),
    ("Roi", "image"),
    ("Shape", "roi"),
    ("Well", "plate"),
    ("WellSample", "well"),
    ("PlateAcquisition", "plate"),
    ("Reagent", "screen"),
    ("FilesetEntry", "fileset"),
    ("Detector", "instrument"),
    ("Dichroic", "instrument"),
    ("Filter", "instrument"),
    ("FilterSet", "instrument"),
    ("LightSource", "instrument"),
    ("Objective", "instrument"),
    ("OTF", "instrument"),
    ("MicrobeamManipulation", "experiment"),
    ("LightSettings", "microbeamManipulation"),
    ("PixelsOriginalFileMap", "child"),
}
#: References to shared objects besides the children of links: (class, field).
SHARED = {
    ("WellSample", "image"),
    ("PixelsOriginalFileMap", "parent"),
    ("FileAnnotation", "file"),
    ("FilesetEntry", "originalFile"),
    ("Image", "fileset"),
    ("Image", "instrument"),
    ("Image", "experiment"),
    ("Image", "imagingEnvironment"),
    ("Image", "objectiveSettings"),
    ("Image", "stageLabel"),
    ("Channel", "logicalChannel"),
    ("Channel", "statsInfo"),
    ("LogicalChannel", "detectorSettings"),
    ("LogicalChannel", "lightSourceSettings"),
    ("LogicalChannel", "lightPath"),
    ("RenderingDef", "quantization"),
}
#: References that may be null, but that the server does not clear.
HELD = {("WellSample", "image")}
#: Children of links that are not deleted with their parents: they are only referred to, not contained.
_REFERENCED_CHILDREN = {"Experimenter", "ExperimenterGroup", "Filter", "Reagent"}


def _named(cls: ModelClass, name: str, pairs: Iterable[tuple[str, str]]) -> bool:
    return any(cls.is_a(owner) and name == field for owner, field in pairs)


@dataclass
class Options:
    """ChildOptions of a request: classes to take in any case, and classes to leave."""

    options: Sequence[Any] = ()

    def verdict(self, tx: Transaction, entity: Entity) -> bool | None:
        """True to take, False to leave, None to decide by the rules."""
        for option in self.options:
            if option is None or not self._concerns(entity, option):
                continue
            if any(_is_a(tx, entity, name) for name in option.includeType or ()):
                return True
            if any(_is_a(tx, entity, name) for name in option.excludeType or ()):
                return False
        return None

    @staticmethod
    def _concerns(entity: Entity, option: Any) -> bool:
        namespace = entity.get("ns") if entity.cls.is_a("Annotation") else None
        if option.includeNs and namespace not in option.includeNs:
            return not entity.cls.is_a("Annotation")
        return not (option.excludeNs and namespace in option.excludeNs)


def _is_a(tx: Transaction, entity: Entity, name: str) -> bool:
    return entity.cls.is_a(tx.cls(name).name)


@dataclass
class Plan:
    """What a command will touch."""

    taken: dict[tuple[str, int], Entity] = field(default_factory=dict)
    #: references to null: (object that refers, field)
    freed: list[tuple[Entity, str]] = field(default_factory=list)
    #: objects outside the set that refer to it, and whose references cannot be cleared
    in_the_way: list[tuple[Entity, str, Entity]] = field(default_factory=list)

    def __contains__(self, entity: object) -> bool:
        return key(entity) in self.taken

    def by_class(self) -> dict[str, list[int]]:
        """Ids by the server's name of the class."""
        return counted(self.taken.values())


def counted(entities: Iterable[Entity]) -> dict[str, list[int]]:
    """Ids by the server's name of the class."""
    found: dict[str, list[int]] = {}
    for entity in entities:
        found.setdefault(entity.cls.java, []).append(entity.id)
    return {name: sorted(ids) for name, ids in sorted(found.items())}


def key(entity: Any) -> tuple[str, int]:
    """The key of an object."""
    return entity.cls.root.name, entity.id


class Walk:
    """Follows references, regardless of permissions."""

    def __init__(self, tx: Transaction) -> None:
        self.tx, self.graph = tx, tx.graph

    def referring(self, entity: Entity) -> Iterator[tuple[Entity, str]]:
        """All objects that refer to this one, with the field by which they do."""
        for root, name in _incoming(self.graph, entity.cls):
            table = self.graph.tables[root]
            for number in list(self.graph.referring(root, name, entity.id)):
                found = table.get(number)
                fields = found.cls.fields if found is not None else {}
                if found is not None and name in fields and entity.cls.is_a(fields[name].type):
                    yield found, name

    def depends(self, entity: Entity, name: str) -> bool:
        """Whether the object cannot do without what its field refers to."""
        return (entity.cls.is_link and name in ("parent", "child")) or _named(entity.cls, name, DEPENDENT)

    def shares(self, entity: Entity) -> Iterator[Entity]:
        """The shared objects that this one holds."""
        names = [name for owner, name in SHARED if entity.cls.is_a(owner)]
        if entity.cls.is_link:
            names.append("child")
        for name in names:
            found = self.tx.target(entity, name)
            if found is not None and found.cls.name not in _REFERENCED_CHILDREN:
                yield found

    def holders(self, entity: Entity) -> Iterator[Entity]:
        """The objects that hold this shared one."""
        for found, name in self.referring(entity):
            if not self.depends(found, name) or (found.cls.is_link and name == "child"):
                yield found

    # -- down and up --------------------------------------------------------------------------------------------------
    def children(self, entity: Entity) -> Iterator[Entity]:
        """What is contained: dependents, and what they share; links are passed through."""
        for found, name in self.referring(entity):
            if found.cls.is_link:
                if name == "parent":
                    child = self.tx.target(found, "child")
                    if child is not None:
                        yield child
            elif self.depends(found, name):
                yield found
        if not entity.cls.is_link:
            yield from self.shares(entity)

    def parents(self, entity: Entity) -> Iterator[Entity]:
        """What contains this: the inverse of `children`."""
        for name, found_field in entity.cls.fields.items():
            if found_field.kind == "ref" and _named(entity.cls, name, DEPENDENT):
                found = self.tx.target(entity, name)
                if found is not None:
                    yield found
        for found, name in self.referring(entity):
            if found.cls.is_link and name == "child":
                parent = self.tx.target(found, "parent")
                if parent is not None:
                    yield parent
            elif _named(found.cls, name, SHARED):
                yield found

    # -- what goes ----------------------------------------------------------------------------------------------------
    def plan(self, targets: Iterable[Entity], options: Options, may_take: Any = lambda entity: True) -> Plan:
        """The targets with all that belongs to them; ``may_take``: whether the caller may include a shared object."""
        targets = list(targets)
        plan, waiting, candidates = Plan(), list(targets), {}
        cut = {key(entity) for entity in targets if entity.cls.is_link}  # who deletes a link means no more than it
        while waiting or candidates:
            while waiting:
                entity = waiting.pop()
                if entity in plan:
                    continue
                plan.taken[key(entity)] = entity
                for found, name in self.referring(entity):
                    if self.depends(found, name) and options.verdict(self.tx, found) is not False:
                        waiting.append(found)
                for shared in () if key(entity) in cut else self.shares(entity):
                    candidates.setdefault(key(shared), shared)
            before = len(plan.taken)
            for name, shared in list(candidates.items()):
                if shared in plan or self._goes(plan, shared, options, may_take):
                    del candidates[name]
                    waiting.append(shared)
            if not waiting and len(plan.taken) == before:
                break
        self._settle(plan)
        return plan

    def _goes(self, plan: Plan, shared: Entity, options: Options, may_take: Any) -> bool:
        verdict = options.verdict(self.tx, shared)
        if verdict is False or not may_take(shared):
            return False
        return verdict is True or all(holder in plan for holder in self.holders(shared))

    def _settle(self, plan: Plan) -> None:
        """Find the references into the set from outside."""
        for entity in list(plan.taken.values()):
            for found, name in self.referring(entity):
                if found in plan:
                    continue
                if found.cls.fields[name].required or _named(found.cls, name, HELD):
                    plan.in_the_way.append((found, name, entity))
                else:
                    plan.freed.append((found, name))


_fields: dict[str, list[tuple[str, str]]] = {}


def _incoming(graph: Graph, cls: ModelClass) -> list[tuple[str, str]]:
    """(root class, field) of every reference that may lead to an object of the class."""
    if cls.name not in _fields:
        found = {
            (one.root.name, name)
            for one in graph.schema.classes.values()
            for name, declared in one.fields.items()
            if declared.kind == "ref" and cls.is_a(declared.type)
        }
        _fields[cls.name] = sorted(found)
    return _fields[cls.name]
