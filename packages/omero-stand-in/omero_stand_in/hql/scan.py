"""Where the rows of a source come from: an index that one of the conditions allows, or all objects of the class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from omero_stand_in.graph.entity import Entity
from omero_stand_in.graph.schema import ModelClass
from omero_stand_in.hql import functions, tree
from omero_stand_in.hql.analysis import free_names, index_field
from omero_stand_in.hql.scope import Env

if TYPE_CHECKING:
    from omero_stand_in.hql.execute import Plan


def scan(plan: Plan, alias: str, conditions: list[tree.Expr], bound: set[str]) -> Any:
    """All objects of a class, or those that an index gives for one of the conditions."""
    cls = plan.scope.classes[alias]
    assert cls is not None
    best: tuple[int, Any] | None = None
    for condition in conditions:
        found = _indexed(plan, cls, alias, condition, bound)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    if best is None:
        name = cls.name
        return lambda env: plan.tx.rows(name)
    return best[1]


def _indexed(plan: Plan, cls: ModelClass, alias: str, condition: tree.Expr, bound: set[str]) -> tuple[int, Any] | None:
    if isinstance(condition, tree.Binary) and condition.operator == "=":
        sides = ((condition.left, (condition.right,)), (condition.right, (condition.left,)))
    elif isinstance(condition, tree.In) and isinstance(condition.members, tuple):
        sides = ((condition.operand, condition.members),)
    elif isinstance(condition, tree.In) and isinstance(condition.members, tree.Query):
        sides = ((condition.operand, (condition.members,)),)
    else:
        return None
    for side, others in sides:
        if not isinstance(side, tree.Path):
            continue
        names = side.names
        if names[0] != alias:
            if alias.startswith("#") and not plan.scope.knows(names[0]):
                names = (alias, *names)
            else:
                continue
        field = index_field(cls, names[1:])
        if field is None or any(free_names(one) - bound for one in others):
            continue
        return (0 if field == "id" else 1), _lookup(plan, cls, field, others)
    return None


def _lookup(plan: Plan, cls: ModelClass, field: str, others: tuple[Any, ...]) -> Any:
    graph, readable = plan.tx.graph, plan.tx.readable
    root = cls.root.name
    table = graph.tables[root]
    values: list[Any] = []
    for one in others:
        if isinstance(one, tree.Query):
            values.append(plan.inner(one).column)
        else:
            values.append(plan.compiler.compile(one).evaluate)

    def look(env: Env) -> Iterator[Entity]:
        wanted: dict[int, None] = {}
        for value in values:
            found = value(env)
            for one in found if isinstance(found, list) else [found]:
                one = functions.comparable(one)
                if isinstance(one, str) and one.lstrip("-").isdigit():
                    one = int(one)
                if field == "id":
                    wanted[one] = None
                else:
                    wanted.update(dict.fromkeys(graph.referring(root, field, one)))
        for identifier in sorted(one for one in wanted if isinstance(one, int)):
            entity = table.get(identifier)
            if entity is not None and entity.cls.is_a(cls.name) and readable(entity):
                yield entity

    return look
