"""What one server call does to the graph, in the caller's name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omero_stand_in import errors

from . import permissions
from .entity import Context, Entity
from .schema import ModelClass

if TYPE_CHECKING:
    from .loading import Loader
    from .store import Graph


class Transaction:
    """Finds, saves and removes objects. Made by `Graph.transaction`, valid until its block ends."""

    def __init__(self, graph: Graph, context: Context) -> None:
        self.graph, self.context = graph, context
        self.readable = permissions.reader(graph, context)
        self._event: Entity | None = None

    # -- finding --------------------------------------------------------------------------------------------------
    def cls(self, name: str) -> ModelClass:
        """A class by any of its names."""
        found = self.graph.schema.find(name)
        if found is None:
            error = errors.api_usage(f"{name} does not specify a valid class.")
            error.serverExceptionClass = error.serverStackTrace = ""  # raised before the call reaches a service
            raise error
        return found

    def find(self, name: str, identifier: int) -> Entity | None:
        """The object if it is there and visible."""
        found = self.raw(name, identifier)
        return found if found is not None and self.readable(found) else None

    def raw(self, name: str, identifier: int) -> Entity | None:
        """The object if it is there, visible or not."""
        cls = self.cls(name)
        found = self.graph.tables[cls.root.name].get(identifier)
        return found if found is not None and found.cls.is_a(cls.name) else None

    def get(self, name: str, identifier: int) -> Entity:
        """The object, or what the server raises when it is not there or not the caller's to see."""
        found = self.raw(name, identifier)
        if found is None:
            missing = f"No row with the given identifier exists: [{self.cls(name).java}#{identifier}]"
            raise errors.validation(f"{missing}; nested exception is org.hibernate.ObjectNotFoundException: {missing}")
        if not self.readable(found):
            raise errors.security(f"Cannot read {found.java}")
        return found

    def rows(self, name: str) -> Iterator[Entity]:
        """All visible objects of a class and its subclasses, by id."""
        tables = [self.graph.by_class[one.name] for one in self.cls(name).concrete()]
        found = (entity for table in tables for entity in table.values())
        return iter(sorted(filter(self.readable, found), key=lambda one: one.id))

    def where(self, cls_name: str, /, **wanted: Any) -> list[Entity]:
        """Visible objects whose fields have these values; references by id."""
        cls = self.cls(cls_name)
        indexed = next((f for f in wanted if f in cls.fields and cls.fields[f].kind == "ref"), None)
        if indexed is not None and wanted[indexed] is not None:
            candidates: Iterable[Entity] = self._referring(cls, indexed, wanted[indexed])
        else:
            candidates = self.rows(cls_name)
        return [one for one in candidates if all(one.get(field) == value for field, value in wanted.items())]

    def _referring(self, cls: ModelClass, field: str, identifier: int) -> list[Entity]:
        root = cls.root.name
        table = self.graph.tables[root]
        found = [table[one] for one in self.graph.referring(root, field, identifier)]
        return sorted((one for one in found if one.cls.is_a(cls.name) and self.readable(one)), key=lambda one: one.id)

    def members(self, entity: Entity, collection: str) -> list[Entity]:
        """The visible members of a collection, in its order."""
        field = entity.cls.fields[collection]
        found = self._referring(self.graph.schema[field.type], field.inverse, entity.id)
        if field.ordered:
            found.sort(key=lambda one: (one.values.get(collection + "#", len(found)), one.id))
        return found

    def target(self, entity: Entity, field: str) -> Entity | None:
        """The object that a reference leads to, visible or not; None when null."""
        identifier = entity.values.get(field)
        if identifier is None:
            return None
        return self.graph.tables[self.graph.schema[entity.cls.fields[field].type].root.name].get(identifier)

    def enum(self, name: str, value: str) -> int:
        """The id of an enumeration's value."""
        for entity in self.graph.by_class[name].values():
            if entity.values.get("value") == value:
                return entity.id
        raise errors.api_usage(f"An {self.cls(name).java} enum does not exist with the value: {value}")

    def can(self, entity: Entity, action: str) -> bool:
        """Whether the caller may ``link``, ``edit``, ``delete``, ``annotate``, ``chgrp`` or ``chown`` it."""
        return action in permissions.allowed(self.graph, self.context, entity)

    def load_value(self, kind: str, key: str) -> Any:
        """The value that `store_value` stored, or None."""
        return self.graph.private.get((kind, key))

    # -- changing -------------------------------------------------------------------------------------------------
    def store_value(self, kind: str, key: str, value: Any) -> None:
        """Store data that is not a model object."""
        self.graph.store_value(kind, key, value)

    def event(self) -> Entity:
        """The event of this call, created at the first use."""
        if self._event is None:
            context = self.context
            values = {
                "time": int(time.time() * 1000),
                "experimenter": context.user,
                "experimenterGroup": max(context.group, 0),
                "type": self.enum("EventType", context.event_type),
                "session": context.session,
            }
            cls = self.graph.schema["Event"]
            self._event = Entity(cls, self.graph.next_id("Event"), values)
            self.graph.put(self._event)
        return self._event

    def insert(self, cls_name: str, /, **values: Any) -> Entity:
        """Store a new object in the server's own name: nothing is checked.

        ``owner`` and ``group`` are of the details for classes that have them, else fields; ``permissions`` is a
        group's level.
        """
        cls = self.cls(cls_name)
        level = values.pop("permissions", "")
        details = self.marks(values.pop("owner", None), values.pop("group", None)) if cls.owned else {}
        given = {key: value for key, value in values.items() if value is not None}
        entity = Entity(cls, self.graph.next_id(cls.root.name), given, details, level)
        self.graph.put(entity)
        return entity

    def marks(self, owner: int | None = None, group: int | None = None) -> dict[str, int]:
        """Owner, group and events of an object that is made now."""
        event = self.event().id
        return {
            "owner": self.context.user if owner is None else owner,
            "group": max(self.context.group, 0) if group is None else group,
            "creationEvent": event,
            "updateEvent": event,
        }

    def change(self, entity: Entity, /, **values: Any) -> Entity:
        """Store other values, unchecked; None makes a field null."""
        marks = {"updateEvent": self.event().id} if entity.cls.owned else None
        changed = replace(entity.changed(values, marks), version=entity.version + 1)
        self.graph.put(changed)
        return changed

    def remove(self, entity: Entity) -> None:
        """Take an object away, unchecked; what refers to it is the caller's affair."""
        self.graph.drop(entity)

    def refuse_if_referred(self, entity: Entity) -> None:
        """Raise the error of the database if another object refers to an object that is deleted."""
        root = entity.cls.root
        for cls in self.graph.schema.classes.values():
            for field in cls.fields.values():
                if field.kind != "ref" or self.graph.schema[field.type].root is not root:
                    continue
                if any(True for _ in self.graph.referring(cls.root.name, field.name, entity.id)):
                    raise errors.validation(
                        f"could not delete: [{entity.cls.java}#{entity.id}]; SQL [delete from "
                        f"{entity.cls.name.lower()} where id=?]; constraint [fk{cls.name.lower()}_{field.name.lower()}_"
                        f"{root.name.lower()}]; nested exception is "
                        "org.hibernate.exception.ConstraintViolationException: "
                        f"could not delete: [{entity.cls.java}#{entity.id}]"
                    )

    # -- objects of omero.model -----------------------------------------------------------------------------------
    def loader(self) -> Loader:
        """A fresh persistence context: what has been loaded in this call."""
        from .loading import Loader

        return Loader(self)

    def load(self, entity: Entity) -> Any:
        """The object as IQuery.get hands it out."""
        return self.loader().get(entity)

    def save(self, thing: Any) -> Any:
        """Save an omero.model object with all that hangs on it; returns it as IUpdate.saveAndReturnObject does."""
        return self.save_all([thing])[0]

    def save_all(self, things: list[Any]) -> list[Any]:
        """Save several objects as one graph."""
        from .persistence import Saver

        return Saver(self).save(things)
