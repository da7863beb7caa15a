"""Analyse a query's tree: the names in it, its independent conditions, and those that an index can answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omero_stand_in.graph.schema import ModelClass
from omero_stand_in.hql import functions, tree
from omero_stand_in.hql.scope import Scope, find_field


def conjuncts(expr: tree.Expr) -> Iterator[tree.Expr]:
    if isinstance(expr, tree.Binary) and expr.operator == "and":
        yield from conjuncts(expr.left)
        yield from conjuncts(expr.right)
    else:
        yield expr


def _parts(node: Any) -> Iterator[Any]:
    """What a node of the tree consists of."""
    if isinstance(node, tuple):
        yield from node
    elif hasattr(node, "__dataclass_fields__"):
        for name in node.__dataclass_fields__:
            yield getattr(node, name)


def free_names(node: Any) -> set[str]:
    """First names of all paths in it, those of subqueries' own aliases left out."""
    if isinstance(node, tree.Path):
        return {node.names[0]}
    if isinstance(node, tree.Join):
        return {node.path[0]} | (free_names(node.condition) if node.condition is not None else set())
    found: set[str] = set()
    for part in _parts(node):
        found |= free_names(part)
    if isinstance(node, tree.Query):
        found -= {source.alias or "" for source in node.sources}
    return found


def has_aggregate(node: Any) -> bool:
    if isinstance(node, tree.Query):
        return False
    if isinstance(node, tree.Call) and node.name in functions.AGGREGATES:
        return True
    return any(has_aggregate(part) for part in _parts(node))


def all_aliases(scope: Scope | None) -> list[str]:
    return [] if scope is None else [*scope.classes, *all_aliases(scope.parent)]


def index_field(cls: ModelClass, names: tuple[str, ...]) -> str | None:
    """The indexed column that a path below an alias is: ``id``, a reference, or owner and group of the details."""
    names = names[:-1] if len(names) > 1 and names[-1] == "id" else names
    if names in ((), ("id",)):
        return "id"
    if len(names) == 2 and names[0] == "details" and names[1] in ("owner", "group"):
        return "details." + names[1]
    field = find_field(cls, names[0]) if len(names) == 1 else None
    return names[0] if field is not None and field.kind == "ref" else None
