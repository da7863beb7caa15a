"""Which names mean what in a query, and how a path is followed through the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omero_stand_in.graph.entity import DETAILS, Entity
from omero_stand_in.graph.schema import Field, ModelClass

from .parser import HqlSyntaxError

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction

#: What the aliases are bound to while a row is made.
Env = dict[str, Any]
Evaluate = Callable[[Env], Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A compiled expression: its Ice type (``RLong``), ``entity``, ``class``, ``permissions``, ``unit`` or unknown."""

    type: str
    evaluate: Evaluate
    cls: ModelClass | None = None


@dataclass
class Scope:
    """The aliases of one query; a subquery's scope refers to that of the outer query."""

    transaction: Transaction
    parameters: dict[str, Any]
    parent: Scope | None = None
    classes: dict[str, ModelClass | None] = field(default_factory=dict)
    #: kinds of aliases that are no objects: ``pair`` (an entry of a map) or ``unit``
    kinds: dict[str, str] = field(default_factory=dict)
    #: references that the query follows: rows in which one is null are left out, as by the join that they stand for
    required: list[Evaluate] = field(default_factory=list)

    def knows(self, alias: str) -> bool:
        """Whether the alias is defined in this query or in an outer one."""
        return alias in self.classes or (self.parent is not None and self.parent.knows(alias))

    def class_of(self, alias: str) -> ModelClass | None:
        """The class of an alias's objects; None if it stands for something else."""
        if alias in self.classes:
            return self.classes[alias]
        return self.parent.class_of(alias) if self.parent is not None else None

    def kind_of(self, alias: str) -> str:
        """``entity``, ``pair`` or ``unit``."""
        if alias in self.classes:
            return self.kinds.get(alias, "entity")
        return self.parent.kind_of(alias) if self.parent is not None else "entity"

    def split(self, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
        """(alias, rest) of a path; the alias may have been left out."""
        if self.knows(names[0]):
            return names[0], names[1:]
        for alias, cls in self.classes.items():
            if cls is not None and (names[0] in ("id", "details", "class") or find_field(cls, names[0])):
                return alias, names
        return None

    # -- paths ------------------------------------------------------------------------------------------------------
    def path(self, names: tuple[str, ...], selected: bool = False) -> Value:
        """Compile ``d.details.owner.id``; ``selected``: an object at its end is joined, not merely referred to."""
        found = self.split(names)
        if found is None:
            cls = self.transaction.graph.schema.find(".".join(names))
            if cls is None:
                raise HqlSyntaxError(f"Unable to resolve path [{'.'.join(names)}]")
            return Value("class", lambda env: cls)
        alias, rest = found

        def start(env: Env) -> Any:
            return env[alias]

        kind = self.kind_of(alias)
        if kind == "pair":
            return self._of_pair(start, rest)
        if kind == "unit":
            return _of_unit(start, rest)
        cls = self.class_of(alias)
        assert cls is not None
        if not rest:
            return Value("entity", start, cls)
        return self._follow(cls, start, rest, selected)

    def _follow(self, cls: ModelClass, start: Evaluate, rest: tuple[str, ...], selected: bool) -> Value:
        name, tail = rest[0], rest[1:]
        if name == "id" and not tail:
            return Value("RLong", lambda env: None if (one := start(env)) is None else one.id)
        if name == "class" and not tail and (cls.root.children):
            return Value("class", lambda env: None if (one := start(env)) is None else one.cls)
        if name == "version" and not tail:
            return Value("RInt", lambda env: None if (one := start(env)) is None else one.version)
        if name == "details":
            return self._of_details(cls, start, tail, selected)
        field = find_field(cls, name)
        if field is None:
            raise HqlSyntaxError(f"could not resolve property: {name} of: {cls.java}")
        if field.kind == "ref":
            target = self.transaction.graph.schema[field.type]
            return self._through(target, lambda env: _value(start(env), field.name), tail, selected)
        if field.kind == "unit":
            return _of_unit(lambda env: _value(start(env), field.name), tail)
        if tail:
            raise HqlSyntaxError(f"could not resolve property: {tail[0]} of {field.name}")
        if field.kind == "collection":
            return Value("collection", lambda env: self._members(start(env), field), None)
        kind = field.type if field.kind == "value" else field.kind
        return Value(kind, lambda env: _value(start(env), field.name))

    def _members(self, entity: Entity | None, field: Field) -> list[Entity]:
        return [] if entity is None else self.transaction.members(entity, field.name)

    def _of_details(self, cls: ModelClass, start: Evaluate, tail: tuple[str, ...], selected: bool) -> Value:
        if tail == ("permissions",):
            return Value("permissions", start)
        if not tail or tail[0] not in DETAILS:
            raise HqlSyntaxError(f"could not resolve property: details.{'.'.join(tail)} of: {cls.java}")
        target = self.transaction.graph.schema[DETAILS[tail[0]]]
        mark = tail[0]

        def reference(env: Env) -> Any:
            one = start(env)
            return None if one is None else one.details.get(mark)

        return self._through(target, reference, tail[1:], selected)

    def _through(self, target: ModelClass, reference: Evaluate, tail: tuple[str, ...], selected: bool) -> Value:
        """Continue at the target of a reference; ``reference`` returns its id."""
        table = self.transaction.graph.tables[target.root.name]
        if tail == ("id",):
            return Value("RLong", reference)

        def entity(env: Env) -> Any:
            return table.get(reference(env))

        if not tail:
            if selected:
                self.required.append(reference)
            return Value("entity", entity, target)
        self.required.append(reference)
        return self._follow(target, entity, tail, selected)

    def _of_pair(self, start: Evaluate, rest: tuple[str, ...]) -> Value:
        if not rest:
            return Value("pair", start)
        if rest not in (("name",), ("value",)):
            raise HqlSyntaxError(f"could not resolve property: {'.'.join(rest)} of a map's entry")
        place = 0 if rest == ("name",) else 1
        return Value("RString", lambda env: None if (pair := start(env)) is None else pair[place])


def find_field(cls: ModelClass, name: str) -> Field | None:
    """The field of a class, or else of one of its subclasses."""
    if name in cls.fields:
        return cls.fields[name]
    found = (find_field(child, name) for child in cls.children)
    return next((one for one in found if one is not None), None)


def _value(entity: Entity | None, name: str) -> Any:
    return None if entity is None else entity.values.get(name)


def _of_unit(start: Evaluate, rest: tuple[str, ...]) -> Value:
    if not rest:
        return Value("unit", start)
    if rest not in (("value",), ("unit",)):
        raise HqlSyntaxError(f"could not resolve property: {'.'.join(rest)} of a unit")
    place, kind = (0, "RDouble") if rest == ("value",) else (1, "unit name")
    return Value(kind, lambda env: None if (unit := start(env)) is None else unit[place])
