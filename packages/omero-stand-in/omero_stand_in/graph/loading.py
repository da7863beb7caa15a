"""From stored entities to omero.model objects, loaded as far as a real server would have loaded them.

A real server maps whatever its persistence context happens to hold: a reference comes loaded when the object was
loaded for any reason during the call, a collection when it was fetched. `Loader` is that context: `fetch` and
`collect` list what was loaded, `map` makes the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import omero
import omero.clients
from omero.rtypes import rbool, rdouble, rint, rlong, rstring, rtime

from . import permissions
from .entity import DETAILS, Entity
from .schema import Field, ModelClass

if TYPE_CHECKING:
    from .transaction import Transaction

WRAPPERS = {"RString": rstring, "RInt": rint, "RLong": rlong, "RDouble": rdouble, "RBool": rbool, "RTime": rtime}
#: Collections that come loaded whenever their owner does.
EAGER = {"Image": ("wellSamples",), "Session": ("annotationLinks",), "OriginalFile": ("filesetEntries",)}
#: Classes whose objects queries and loads always hand out as references.
NEVER_LOADED = {"JobOriginalFileLink"}


def unit(kind: str, value: list[Any]) -> Any:
    """``[0.5, "MICROMETER"]`` as an omero.model.LengthI (or another unit's class)."""
    enumeration = getattr(omero.model.enums, "Units" + kind)
    return getattr(omero.model, kind + "I")(value[0], getattr(enumeration, value[1]))


def pairs(value: list[list[str]]) -> list[Any]:
    """A map as omero.model.NamedValue objects."""
    return [omero.model.NamedValue(name, text) for name, text in value]


class Loader:
    """The persistence context of one call."""

    def __init__(self, transaction: Transaction) -> None:
        self.tx = transaction
        #: whether this is the context of a save
        self.saved = False
        self._loaded: set[tuple[str, int]] = set()
        self._collections: dict[tuple[str, int, str], list[Entity]] = {}
        self._objects: dict[tuple[str, int], Any] = {}
        self._grants: dict[tuple[bool, int | None, str], Any] = {}
        if transaction.context.group >= 0:
            self._loaded.add(("ExperimenterGroup", transaction.context.group))

    # -- marking what is loaded ----------------------------------------------------------------------------------
    def fetch(self, entity: Entity | None) -> None:
        """The object has been loaded."""
        if entity is not None:
            self._loaded.add((entity.cls.root.name, entity.id))

    def collect(self, entity: Entity, collection: str, members: list[Entity] | None = None) -> None:
        """A collection has been loaded, with all its members or with those given so far."""
        key = (entity.cls.root.name, entity.id, collection)
        if members is None:
            self._collections[key] = self.tx.members(entity, collection)
        else:
            known = self._collections.setdefault(key, [])
            known.extend(one for one in members if one not in known)

    def collected(self, entity: Entity, collection: str) -> bool:
        """Whether a collection has been loaded."""
        return (entity.cls.root.name, entity.id, collection) in self._collections

    # -- making objects -------------------------------------------------------------------------------------------
    def get(self, entity: Entity) -> Any:
        """The object as after a load by id."""
        self.fetch(entity)
        return self.map(entity)

    def map(self, entity: Entity) -> Any:
        """The omero.model object of an entity; the same one each time."""
        key = (entity.cls.root.name, entity.id)
        known = self._objects.get(key)
        if known is not None:
            return known
        if key not in self._loaded or (entity.cls.name in NEVER_LOADED and not self.saved):
            answer = self._objects[key] = entity.cls.new(entity.id, False)
            return answer
        answer = self._objects[key] = entity.cls.new(entity.id, True)
        for field in entity.cls.fields.values():
            if field.kind == "collection":
                self._fill_collection(answer, entity, field)
            else:
                value = entity.values.get(field.name)
                setattr(answer, field.slot, None if value is None else self._value(field, value))
        answer._details = self._details(entity)
        return answer

    def reference(self, cls: ModelClass, identifier: int) -> Any:
        """The object that an id refers to, loaded if it has been."""
        found = self.tx.graph.tables[cls.root.name].get(identifier)
        return cls.new(identifier, False) if found is None else self.map(found)

    def _value(self, field: Field, value: Any) -> Any:
        if field.kind == "value":
            return WRAPPERS[field.type](value)
        if field.kind == "ref":
            return self.reference(self.tx.graph.schema[field.type], value)
        if field.kind == "unit":
            return unit(field.type, value)
        if field.kind == "map":
            return pairs(value)
        return value

    def _fill_collection(self, answer: Any, entity: Entity, field: Field) -> None:
        members = self._collections.get((entity.cls.root.name, entity.id, field.name))
        eager = members is None and field.name in EAGER.get(entity.cls.name, ())
        if eager:
            members = self.tx.members(entity, field.name)
            for one in members:
                self.fetch(one)
        setattr(answer, f"_{field.name}Loaded", members is not None)
        setattr(answer, field.slot, [self.map(one) for one in members or ()])

    def _details(self, entity: Entity) -> Any:
        details = omero.model.DetailsI()
        for name, cls in DETAILS.items():
            if name in entity.details:
                target = self.reference(self.tx.graph.schema[cls], entity.details[name])
                setattr(details, "_" + name, target)
        details._permissions = self.permissions(entity)
        return details

    def permissions(self, entity: Entity) -> Any:
        """The level of the object's group and what the caller may do with the object."""
        context = self.tx.context
        if entity.permissions:
            text = entity.permissions
        elif entity.cls.owned:
            text = permissions.level(self.tx.graph, entity.group)
        else:
            text = "rwr---"
        key = (entity.owner == context.user, entity.group, entity.cls.name if not entity.cls.owned else text)
        if key not in self._grants:
            allowed = permissions.allowed(self.tx.graph, context, entity)
            grant = omero.model.PermissionsI(text)
            grant._restrictions = [action not in allowed for action in permissions.ACTIONS]
            grant._extendedRestrictions = []
            self._grants[key] = grant
        return self._grants[key]
