"""A query as typed data: what the parser makes of the text, before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class Expr:
    """An expression."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Path(Expr):
    """``d.details.owner.id``; what the first name means depends on the aliases in force."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    name: str


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    value: Any
    #: Ice type of the value: RString, RInt, RLong, RDouble, RBool or "" for null
    type: str


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """``and``, ``or``, a comparison, ``+ - * / ||`` or ``like`` (negated: ``not like``)."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Not(Expr):
    operand: Expr


@dataclass(frozen=True, slots=True)
class IsNull(Expr):
    operand: Expr


@dataclass(frozen=True, slots=True)
class IsEmpty(Expr):
    collection: Expr


@dataclass(frozen=True, slots=True)
class MemberOf(Expr):
    operand: Expr
    collection: Path


@dataclass(frozen=True, slots=True)
class Elements(Expr):
    """``elements(d.imageLinks)``"""

    collection: Path


@dataclass(frozen=True, slots=True)
class Exists(Expr):
    source: Query | Elements


@dataclass(frozen=True, slots=True)
class In(Expr):
    operand: Expr
    members: tuple[Expr, ...] | Query | Elements


@dataclass(frozen=True, slots=True)
class Between(Expr):
    operand: Expr
    low: Expr
    high: Expr


@dataclass(frozen=True, slots=True)
class Call(Expr):
    """A function, aggregates among them; ``count(*)`` has no arguments and ``every`` set."""

    name: str
    arguments: tuple[Expr, ...]
    distinct: bool = False
    every: bool = False


@dataclass(frozen=True, slots=True)
class Case(Expr):
    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr | None


@dataclass(frozen=True, slots=True)
class Subquery(Expr):
    query: Query


@dataclass(frozen=True, slots=True)
class Item:
    expr: Expr
    alias: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """``Dataset d``; ``place`` is where the class stands in the text."""

    name: str
    alias: str
    place: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Join:
    path: tuple[str, ...]
    alias: str | None
    outer: bool
    fetch: bool
    condition: Expr | None


@dataclass(frozen=True, slots=True)
class Ordering:
    expr: Expr
    descending: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A whole select; ``items`` is empty when there is no select clause."""

    items: tuple[Item, ...]
    distinct: bool
    new_map: bool
    sources: tuple[Source | Join, ...]
    where: Expr | None
    group: tuple[Expr, ...]
    having: Expr | None
    order: tuple[Ordering, ...]


@dataclass(frozen=True, slots=True)
class Dml:
    """An update or a delete, which is always refused."""

    text: str
