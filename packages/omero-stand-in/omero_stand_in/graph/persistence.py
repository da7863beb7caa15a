"""Saving omero.model objects: everything that hangs loaded on them is saved with them, as one graph.

The order of things, which the server's messages show: all loaded objects are collected; each gets its entity, found or
new; then values and references are set, rights and the database's rules checked; at last collections that came loaded
decide which of their former members go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from omero_stand_in import errors

from . import permissions, rules
from .entity import Entity
from .loading import Loader
from .schema import Field, ModelClass

if TYPE_CHECKING:
    from .transaction import Transaction

#: What members of a read-annotate group may attach to others' objects.
ANNOTATING = {"Roi", "Thumbnail", "RenderingDef"}


class Saver:
    """One save of one graph."""

    def __init__(self, transaction: Transaction) -> None:
        self.tx, self.graph, self.context = transaction, transaction.graph, transaction.context
        #: objects given, in the order in which they were met, and their entities by ``id()``
        self._things: list[Any] = []
        self._met: set[int] = set()
        self._entities: dict[int, Entity] = {}
        self._new: set[tuple[str, int]] = set()
        self._referred: list[Entity] = []
        self._taken: set[tuple[str, int]] = set()

    def save(self, things: list[Any]) -> list[Any]:
        """Save; returns the objects as the server hands them back, in the order given."""
        for thing in things:
            if thing is None:
                raise errors.internal(
                    " Wrapped Exception: (java.lang.NullPointerException):\nnull", "java.lang.NullPointerException"
                )
            self._collect(thing)
        if self._things and self.context.group < 0 and not self.context.internal:
            raise errors.api_usage(
                "No valid permissions available! DUMMY permissions are not intended for copying. "
                "Make sure that you have not passed omero.group=-1 for a save without context"
            )
        for thing in self._things:
            self._identify(thing)
        for thing in self._things:
            self._write(thing)
        for thing in self._things:
            self._order_collections(thing)
        for thing in self._things:
            self._drop_orphans(thing)
        return self._answers(things)

    # -- first walk -----------------------------------------------------------------------------------------------
    def _collect(self, thing: Any) -> None:
        """Remember an object and all loaded ones that it leads to, each once, what is referred to first."""
        if thing is None or id(thing) in self._met:
            return
        self._met.add(id(thing))
        if not thing.isLoaded():
            self._things.append(thing)
            return
        fields = self.graph.schema.of(thing).fields.values()
        for field in fields:
            if field.kind == "ref":
                self._collect(getattr(thing, field.slot))
        if thing._details is not None:
            self._collect(thing._details._externalInfo)
        self._things.append(thing)
        for field in fields:
            if field.kind == "collection" and getattr(thing, f"_{field.name}Loaded"):
                for member in getattr(thing, field.slot) or ():
                    self._collect(member)

    def _identify(self, thing: Any) -> None:
        """Give an object its entity: the stored one, an enumeration found by its value, or a new one."""
        cls = self.graph.schema.of(thing)
        identifier = thing._id.val if thing._id is not None else None
        if not thing.isLoaded():
            if identifier is None:
                raise errors.validation(f"unloaded {cls.java} without an id")
            self._entities[id(thing)] = found = self.tx.get(cls.name, identifier)
            self._referred.append(found)
            return
        if identifier is not None:
            found = self.tx.raw(cls.name, identifier)
            if found is None or not self.tx.readable(found):
                raise errors.validation("object no longer exists in database")
            self._entities[id(thing)] = found
            return
        if cls.is_enum and thing._value is not None:
            for one in self.graph.by_class[cls.name].values():
                if one.values["value"] == thing._value.val:
                    self._entities[id(thing)] = one
                    self._referred.append(one)
                    return
        self._entities[id(thing)] = self._fresh(cls, thing)

    def _fresh(self, cls: ModelClass, thing: Any) -> Entity:
        if not cls.owned and not self.context.internal and cls.name != "Namespace":
            value = f"{thing._value.val}:" if cls.is_enum and thing._value is not None else ""
            number = self.graph.next_id(cls.root.name)
            raise errors.security(
                f"{cls.java}:{value}Id_{number} is a System-type, and may be created only through privileged APIs."
            )
        number = self.graph.next_id(cls.root.name)
        self._new.add((cls.root.name, number))
        entity = Entity(cls, number, {}, self._new_marks(cls, number, thing) if cls.owned else {})
        level = str(thing._details._permissions) if cls.name == "ExperimenterGroup" and _has_level(thing) else ""
        return entity if not level else Entity(cls, number, {}, {}, level)

    def _new_marks(self, cls: ModelClass, number: int, thing: Any) -> dict[str, int]:
        """Owner and group as the client may set them: to its own, or an administrator to others'."""
        details, context = thing._details, self.context
        owner, group = context.user, max(context.group, 0)
        name = f"{cls.java}:Id_{number}"
        if details is not None and not context.internal:
            if _has_level(thing) and str(details._permissions) != permissions.level(self.graph, group):
                raise errors.make("GroupSecurityViolation", "Manually setting permissions currently disallowed")
            if details._owner is not None and details._owner._id.val != owner:
                owner = details._owner._id.val
                if not (context.is_admin or group in context.leader_of):
                    raise errors.security(
                        f"You are not authorized to set the Experimenter for {name} "
                        f"to ome.model.meta.Experimenter:Id_{owner}"
                    )
            if details._group is not None and details._group._id.val != group:
                raise errors.security(
                    f"You are not authorized to set the ExperimenterGroup for {name} "
                    f"to ome.model.meta.ExperimenterGroup:Id_{details._group._id.val}"
                )
        if not (context.internal or group in context.member_of or self._supervises(group, "WriteOwned")):
            raise errors.security(f"You are not authorized to create {name}")
        return self.tx.marks(owner, group)

    def _supervises(self, group: int, privilege: str) -> bool:
        context = self.context
        return group in context.leader_of or (context.is_admin and privilege in context.privileges)

    # -- second walk ----------------------------------------------------------------------------------------------
    def _write(self, thing: Any) -> None:
        if not thing.isLoaded():
            return
        entity = self._entities[id(thing)]
        key = (entity.cls.root.name, entity.id)
        is_new = key in self._new
        if not is_new and entity.cls.is_enum and thing._id is None:
            return  # found by its value
        stored = self._stored(entity)
        values: dict[str, Any] = {}
        for field in entity.cls.fields.values():
            if field.kind != "collection":
                value = self._value(field, getattr(thing, field.slot))
                if value != stored.values.get(field.name):
                    values[field.name] = value
        marks = {} if is_new else self._changed_marks(thing, stored)
        external = thing._details._externalInfo if thing._details is not None else None
        if external is not None and stored.details.get("externalInfo") != self._entities[id(external)].id:
            marks["externalInfo"] = self._entities[id(external)].id
        if not is_new and not values and not marks:
            return
        if not is_new:
            self._may_edit(stored)
            stored = replace(stored, version=stored.version + 1)
            if stored.cls.owned:
                marks["updateEvent"] = self.tx.event().id
        if is_new and entity.cls.name == "WellSample" and thing._well is not None and not thing._well.isLoaded():
            raise errors.internal(  # the well's list of fields cannot be renumbered without the well
                " Wrapped Exception: (org.springframework.orm.hibernate3.HibernateSystemException):\n"
                "null index column for collection: ome.model.screen.Well.wellSamples"
            )
        if values.get("repo") is not None and entity.cls.name == "OriginalFile" and not self.context.internal:
            raise errors.security(f"cannot set repo property of {entity.java} via ORM")
        changed = stored.changed(values, marks)
        self._may_link(changed, values, is_new)
        rules.check(self.tx, changed, is_new)
        self.graph.put(changed)
        self._entities[id(thing)] = changed

    def _stored(self, entity: Entity) -> Entity:
        return self.graph.tables[entity.cls.root.name].get(entity.id, entity)

    def _value(self, field: Field, value: Any) -> Any:
        if value is None:
            return None
        if field.kind == "value":
            return value.val
        if field.kind == "ref":
            return self._entities[id(value)].id
        if field.kind == "unit":
            return [value.getValue(), str(value.getUnit())]
        if field.kind == "map":
            return [[one.name, one.value] for one in value if one is not None]
        return bytes(value) if field.kind == "bytes" else list(value)

    def _changed_marks(self, thing: Any, stored: Entity) -> dict[str, int | None]:
        """What of an existing object's details the client changes, or what is raised."""
        details, marks = thing._details, {}
        if details is None or not stored.cls.owned or self.context.internal:
            return {}
        was = stored.details
        if details._updateEvent is not None and details._updateEvent._id.val != was["updateEvent"]:
            raise errors.optimistic_lock(
                f"You are not authorized to change the update event for {stored.java} from "
                f"ome.model.meta.Event:Id_{was['updateEvent']} to "
                f"ome.model.meta.Event:Id_{details._updateEvent._id.val}"
            )
        if details._owner is not None and details._owner._id.val != was["owner"]:
            if not self._supervises(was["group"], "Chown"):
                raise errors.security(
                    f"You are not authorized to change the owner for {stored.java} from "
                    f"ome.model.meta.Experimenter:Id_{was['owner']} to "
                    f"ome.model.meta.Experimenter:Id_{details._owner._id.val}"
                )
            marks["owner"] = details._owner._id.val
        if details._group is not None and details._group._id.val != was["group"]:
            group = details._group._id.val
            if group not in self.context.member_of and not self.context.is_admin:
                raise errors.security(
                    f"You are not authorized to change the group for {stored.java} from "
                    f"ome.model.meta.ExperimenterGroup:Id_{was['group']} to ome.model.meta.ExperimenterGroup:Id_{group}"
                )
            marks["group"] = group
        return marks

    def _may_edit(self, stored: Entity) -> None:
        context = self.context
        if context.internal:
            return
        if stored.cls.owned and stored.group != context.group and stored.group != permissions.USER_GROUP:
            raise errors.security(
                f"Currently logged into group {context.group}. Cannot alter object in group {stored.group}"
            )
        if not self.tx.can(stored, "edit"):
            if context.is_admin and stored.group not in context.member_of:
                raise errors.make("GroupSecurityViolation", f"{stored.java}-modification violates group-security.")
            raise errors.security(f"Updating {stored.java} not allowed.")

    def _may_link(self, entity: Entity, values: dict[str, Any], is_new: bool) -> None:
        """Whether the caller may let this object refer to those that it newly refers to."""
        if self.context.internal or not entity.cls.owned:
            return
        annotating = entity.cls.name in ANNOTATING or (entity.cls.is_link and "Annotation" in entity.cls.name)
        for name, identifier in values.items():
            field = entity.cls.fields.get(name)
            if identifier is None or field is None or field.kind != "ref":
                continue
            cls = self.graph.schema[field.type]
            target = self.graph.tables[cls.root.name].get(identifier)
            if target is None or not target.cls.owned or (target.cls.root.name, target.id) in self._new:
                continue
            if target.group == permissions.USER_GROUP:
                continue  # what is everybody's, the official scripts above all
            if annotating and name == "child":
                continue  # a user who can see a tag may use it
            if not self.tx.can(target, "annotate" if annotating else "link"):
                level = permissions.level(self.graph, target.group)
                supervisor = self._supervises(target.group or 0, "WriteOwned")
                kind = "ReadOnlyGroupSecurityViolation" if supervisor else "SecurityViolation"
                raise errors.make(kind, f"Group is {level}. Cannot link to object: {target.java}")

    # -- collections ----------------------------------------------------------------------------------------------
    def _loaded_collections(self, thing: Any) -> list[tuple[Field, list[Any]]]:
        if not thing.isLoaded():
            return []
        return [
            (field, getattr(thing, field.slot) or [])
            for field in self._entities[id(thing)].cls.fields.values()
            if field.kind == "collection" and getattr(thing, f"_{field.name}Loaded")
        ]

    def _order_collections(self, thing: Any) -> None:
        """Members of ordered collections remember their places."""
        for field, members in self._loaded_collections(thing):
            owner = self._entities[id(thing)]
            for place, member in enumerate(members):
                if member is None:
                    continue
                stored = self._stored(self._entities[id(member)])
                values: dict[str, Any] = {}
                if stored.values.get(field.inverse) is None:
                    values[field.inverse] = owner.id
                if field.ordered and stored.values.get(field.name + "#") != place:
                    values[field.name + "#"] = place
                if values:
                    changed = stored.changed(values)
                    self.graph.put(changed)
                    self._entities[id(member)] = changed

    def _drop_orphans(self, thing: Any) -> None:
        """Former members that a loaded collection no longer has are deleted."""
        owner = self._entities.get(id(thing))
        if owner is None or (owner.cls.root.name, owner.id) in self._new:
            return
        for field, members in self._loaded_collections(thing):
            remaining = {self._entities[id(one)].id for one in members if one is not None}
            former = [one for one in self.tx.members(owner, field.name) if one.id not in remaining]
            if not former:
                continue
            given = {self._entities[id(one)].id for one in self._things if self.graph.schema.of(one).is_a(field.type)}
            for one in former:
                if one.id in given or (one.cls.root.name, one.id) in self._new:
                    continue
                if one.cls.is_link or field.ordered:
                    if not self.tx.can(one, "delete"):
                        raise errors.security(f"Deleting {one.java} not allowed.")
                    self.graph.drop(one)

    # -- what comes back ------------------------------------------------------------------------------------------
    def _answers(self, things: list[Any]) -> list[Any]:
        loader = Loader(self.tx)
        loader.saved = True
        fetched = [self._stored(one) for one in self._entities.values()]
        for entity in [*fetched, *self._referred]:
            loader.fetch(entity)
        users, groups = self.graph.tables["Experimenter"], self.graph.tables["ExperimenterGroup"]
        loader.fetch(users.get(self.context.user))
        loader.fetch(groups.get(self.context.group))
        if self.tx._event is not None:
            loader.fetch(self.tx._event)
        for thing in self._things:
            entity = self._stored(self._entities[id(thing)])
            is_new = (entity.cls.root.name, entity.id) in self._new
            if is_new:
                for field in entity.cls.fields.values():
                    if field.kind == "collection":
                        loader.collect(entity, field.name)
            else:
                for field, _ in self._loaded_collections(thing):
                    loader.collect(entity, field.name)
                given = thing._details._creationEvent if thing.isLoaded() and thing._details is not None else None
                if given is not None and given.isLoaded():
                    loader.fetch(self.graph.tables["Event"].get(given._id.val))
        return [loader.map(self._stored(self._entities[id(thing)])) for thing in things]


def _has_level(thing: Any) -> bool:
    details = thing._details
    return details is not None and details._permissions is not None
