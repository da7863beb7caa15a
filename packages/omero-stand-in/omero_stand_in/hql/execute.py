"""Running a query: rows are made source by source and join by join, each condition tested as soon as it can be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import omero
import omero.clients

from omero_stand_in import errors
from omero_stand_in.graph.entity import DETAILS, Entity
from omero_stand_in.graph.loading import Loader
from omero_stand_in.graph.schema import ModelClass

from . import functions, tree
from .analysis import all_aliases, conjuncts, free_names, has_aggregate
from .compile import Compiler
from .parser import HqlSyntaxError, parse
from .scan import scan
from .scope import Env, Evaluate, Scope, Value, find_field

if TYPE_CHECKING:
    from omero_stand_in.graph.transaction import Transaction


@dataclass
class Result:
    """The rows of a query; cells are entities and Python values."""

    rows: list[tuple[Any, ...]]
    #: Ice type of each column, ``entity``, ``permissions``, ``class``, ``unit`` or ""
    types: list[str]
    names: list[str | None]
    new_map: bool
    #: what the query loaded
    loader: Loader


@dataclass
class Stage:
    """One step of making rows: a source or a join, and the conditions that can be tested after it."""

    alias: str
    values: Any  # Callable[[Env], Iterable[Any]]
    outer: bool = False
    condition: Evaluate | None = None
    tests: tuple[Evaluate, ...] = ()


@dataclass
class Fetch:
    """A join that also loads: the alias of what it loads, and where it hangs."""

    alias: str
    base: Evaluate
    #: name of the collection, empty for a reference
    collection: str


class Plan:
    """A compiled query."""

    def __init__(self, transaction: Transaction, query: tree.Query, parameters: dict[str, Any], parent: Scope | None):
        self.tx, self.query = transaction, query
        self.scope = Scope(transaction, parameters, parent)
        self.compiler = Compiler(self.scope, lambda inner, scope: Plan(transaction, inner, parameters, scope))
        self.fetches: list[Fetch] = []
        self._cache: list[Any] | None = None
        self._correlated = parent is not None and bool(free_names(query) & set(all_aliases(parent)))
        self._stages = [self._stage(place, source) for place, source in enumerate(query.sources)]
        self._place_conditions()
        self._compile_select()
        named = {(item.alias,): item.expr for item in query.items if item.alias and parent is None}
        order = [(named.get(getattr(one.expr, "names", ())) or one.expr, one.descending) for one in query.order]
        self._order = [(self.compiler.compile(expr), descending) for expr, descending in order]
        self._group = [self.compiler.compile(one) for one in query.group]
        self._having = self.compiler.compile(query.having) if query.having is not None else None
        parts = [*(item.expr for item in query.items), *(expr for expr, _ in order), query.having]
        self.grouped = bool(query.group) or any(has_aggregate(part) for part in parts)
        self._check_fetches()

    # -- compiling --------------------------------------------------------------------------------------------------
    def _stage(self, place: int, source: tree.Source | tree.Join) -> Stage:
        if isinstance(source, tree.Source):
            return self._root(place, source)
        found = self.scope.split(source.path)
        if found is None or not found[1]:
            raise HqlSyntaxError(f"Path expected for join: {'.'.join(source.path)}")
        alias = source.alias or f"#{place}"
        head, steps = found
        cls = self.scope.class_of(head)
        if cls is None:
            raise HqlSyntaxError(f"could not resolve property: {steps[0]} of {head}")

        def base(env: Env) -> Any:
            return env[head]

        while True:
            used, target, values, field = self._step(cls, steps)
            if used == len(steps):
                break
            if target is None or field:
                raise HqlSyntaxError(f"could not resolve property: {steps[used]} of {steps[used - 1]}")
            cls, steps, base = target, steps[used:], _first_of(values, base)
        self.scope.classes[alias] = target
        if target is None:
            self.scope.kinds[alias] = field
        if source.fetch:
            collection = steps[-1] if field == "collection" else ""
            self.fetches.append(Fetch(alias, base, collection))
        condition = self.compiler.compile(source.condition).evaluate if source.condition is not None else None
        start = base

        def made(env: Env) -> Iterable[Any]:
            one = start(env)
            return () if one is None else values(one)

        return Stage(alias, made, source.outer, condition)

    def _step(self, cls: ModelClass, steps: tuple[str, ...]) -> tuple[int, ModelClass | None, Any, str]:
        """(names used, class behind them, entity → values, ``collection``, ``pair``, ``unit`` or "")."""
        schema, tables = self.tx.graph.schema, self.tx.graph.tables
        if steps[0] == "details" and len(steps) > 1 and steps[1] in DETAILS:
            mark, target = steps[1], schema[DETAILS[steps[1]]]
            table = tables[target.root.name]
            return 2, target, lambda one: _present(table.get(one.details.get(mark))), ""
        field = find_field(cls, steps[0])
        if field is None:
            raise HqlSyntaxError(f"could not resolve property: {steps[0]} of: {cls.java}")
        name = field.name
        if field.kind == "collection":
            return 1, schema[field.type], lambda one: self.tx.members(one, name), "collection"
        if field.kind == "ref":
            target = schema[field.type]
            table = tables[target.root.name]
            return 1, target, lambda one: _present(table.get(one.values.get(name))), ""
        if field.kind == "map":
            return 1, None, lambda one: [(*pair, n) for n, pair in enumerate(one.values.get(name, ()))], "pair"
        if field.kind == "unit":
            return 1, None, lambda one: _present(one.values.get(name)), "unit"
        raise HqlSyntaxError(f"{cls.java}.{name} cannot be joined")

    def _root(self, place: int, source: tree.Source) -> Stage:
        if self.scope.parent is not None or self.scope.classes:  # from Dataset d, d.imageLinks l; or correlated
            head = source.name.split(".")[0]
            if self.scope.knows(head) and "." in source.name:
                return self._stage(
                    place, tree.Join(tuple(source.name.split(".")), source.alias or None, False, False, None)
                )
        cls = self.tx.graph.schema.find(source.name)
        if cls is None:
            raise HqlSyntaxError(f"{source.name} is not mapped", "as_sent")
        alias = source.alias or f"#{place}"
        self.scope.classes[alias] = cls
        return Stage(alias, None)

    def _place_conditions(self) -> None:
        """Test each condition after the first stage that binds all its aliases, and look for indexes."""
        self.compiler.in_where = True
        own = {stage.alias: place for place, stage in enumerate(self._stages)}
        conditions = list(conjuncts(self.query.where)) if self.query.where is not None else []
        compiled = [self.compiler.compile(condition).evaluate for condition in conditions]
        names = [free_names(condition) for condition in conditions]
        known = set(own) | set(all_aliases(self.scope.parent))
        for place, stage in enumerate(self._stages):
            tests = []
            for used, test in zip(names, compiled, strict=True):
                last = max((own[name] for name in used if name in own), default=0)
                if used - known:  # a name without its alias: only at the end are all of them bound
                    last = len(self._stages) - 1
                if last == place:
                    tests.append(test)
            stage.tests = tuple(tests)
            if stage.values is None:
                bound = {alias for alias, at in own.items() if at < place} | set(all_aliases(self.scope.parent))
                stage.values = scan(self, stage.alias, conditions, bound)
        self.compiler.in_where = False

    def inner(self, query: tree.Query) -> Plan:
        """A subquery of this query."""
        return Plan(self.tx, query, self.scope.parameters, self.scope)

    def _compile_select(self) -> None:
        items = self.query.items
        if not items:
            items = tuple(
                tree.Item(tree.Path((stage.alias,)), None)
                for stage, source in zip(self._stages, self.query.sources, strict=True)
                if isinstance(source, tree.Source) or not (source.fetch or len(self.query.sources) > 1)
            )
        self.names = [item.alias for item in items]
        self._items: list[Value] = [self.compiler.compile(item.expr, selected=True) for item in items]
        self.types = [item.type for item in self._items]
        self._selected = {
            item.expr.names[0] for item in items if isinstance(item.expr, tree.Path) and len(item.expr.names) == 1
        }

    def _check_fetches(self) -> None:
        """Who owns a fetched association must be selected, or be fetched itself."""
        owned = set(self._selected)
        for source, stage in zip(self.query.sources, self._stages, strict=True):
            if isinstance(source, tree.Join) and source.fetch:
                if source.path[0] not in owned and source.path[0] in self.scope.classes:
                    raise HqlSyntaxError(
                        "query specified join fetching, but the owner of the fetched association "
                        "was not present in the select list"
                    )
                owned.add(stage.alias)

    # -- running ----------------------------------------------------------------------------------------------------
    def _envs(self, outer: Env) -> Iterator[Env]:
        def go(place: int, env: Env) -> Iterator[Env]:
            if place == len(self._stages):
                if all(one(env) is not None for one in self.scope.required):
                    yield env
                return
            stage = self._stages[place]
            found = False
            for value in stage.values(env):
                inner = {**env, stage.alias: value}
                if stage.condition is not None and not stage.condition(inner):
                    continue
                found = True
                if all(test(inner) for test in stage.tests):
                    yield from go(place + 1, inner)
            if not found and stage.outer:
                inner = {**env, stage.alias: None}
                if all(test(inner) for test in stage.tests):
                    yield from go(place + 1, inner)

        return go(0, outer)

    def _grouped(self, outer: Env) -> list[Env]:
        """The rows, or one row for each group with its members under ``#group``."""
        envs = list(self._envs(outer))
        if not self.grouped:
            return envs
        groups: dict[Any, list[Env]] = {}
        if not self.query.group:
            groups[()] = envs
        for env in envs if self.query.group else ():
            groups.setdefault(tuple(functions.key(one.evaluate(env)) for one in self._group), []).append(env)
        blank: Env = dict.fromkeys(self.scope.classes)
        made = [{**(members[0] if members else {**outer, **blank}), "#group": members} for members in groups.values()]
        return [env for env in made if self._having is None or self._having.evaluate(env)]

    def _sorted(self, envs: list[Env]) -> list[Env]:
        for value, descending in reversed(self._order):
            evaluate = value.evaluate

            def place(env: Env, evaluate: Evaluate = evaluate) -> Any:
                key = functions.comparable(evaluate(env))
                key = key[0] if isinstance(key, list) else getattr(key, "name", key)
                return (key is None, 0 if key is None else key)  # the database puts null last, or first when descending

            envs.sort(key=place, reverse=descending)
        return envs

    def row(self, env: Env) -> tuple[Any, ...]:
        """The selected cells of one row."""
        return tuple(item.evaluate(env) for item in self._items)

    def rows(self, outer: Env) -> list[tuple[Env, tuple[Any, ...]]]:
        """All rows in order; without duplicates if the query is distinct."""
        made = [(env, self.row(env)) for env in self._sorted(self._grouped(outer))]
        if self.query.distinct or (not self.grouped and any(fetch.collection for fetch in self.fetches)):
            distinct: dict[Any, tuple[Env, tuple[Any, ...]]] = {}
            self._doubles: dict[int, list[Env]] = {}
            for env, row in made:
                first = distinct.setdefault(tuple(map(functions.key, row)), (env, row))
                self._doubles.setdefault(id(first[0]), []).append(env)
            made = list(distinct.values())
        return made

    def same(self, env: Env) -> list[Env]:
        """The rows that were taken out as doubles of one that stayed, itself included."""
        return getattr(self, "_doubles", {}).get(id(env), [env])

    def column(self, outer: Env, ordered: bool = False) -> list[Any]:
        """The first column, for a subquery."""
        if self._cache is not None:
            return self._cache
        answer = [row[0] for _, row in self.rows(outer)]
        if not self._correlated:
            self._cache = answer
        return answer

    def any(self, outer: Env) -> bool:
        """Whether there is a row, for ``exists``."""
        if self.grouped:
            return bool(self._grouped(outer))
        return next(self._envs(outer), None) is not None


def run(transaction: Transaction, text: str, parameters: Any) -> Result:
    """Run a query with an omero.sys.Parameters (or None)."""
    given, (offset, limit) = _parameters(parameters)
    try:
        query = parse(text)
        if isinstance(query, tree.Dml):
            raise errors.api_usage(f"Not supported for DML operations [{_imported(transaction, text)}]")
        _refuse_empty_lists(transaction, text, given)
        plan = Plan(transaction, query, given, None)
    except HqlSyntaxError as error:
        shown = {"bare": "", "as_sent": f" [{text}]"}.get(error.shown, f" [{_imported(transaction, text)}]")
        message = f"Illegal query:{text}\n{error}{shown}"
        raise errors.make("QueryException", message, "ome.services.query.QueryException") from error
    rows = plan.rows({})
    begin = max(offset or 0, 0)
    rows = rows[begin : begin + limit] if limit is not None and limit >= 0 else rows[begin:]
    loader = Loader(transaction)
    for env, row in rows:
        for cell in row:
            if isinstance(cell, Entity):
                loader.fetch(cell)
        for same in plan.same(env):
            _load(loader, plan, same)
    return Result([row for _, row in rows], plan.types, plan.names, query.new_map, loader)


def _load(loader: Loader, plan: Plan, env: Env) -> None:
    """What the fetching joins of one row load."""
    for fetch in plan.fetches:
        member, owner = env.get(fetch.alias), fetch.base(env)
        if isinstance(member, Entity):
            loader.fetch(member)
        if fetch.collection and owner is not None:
            loader.collect(owner, fetch.collection, [member] if isinstance(member, Entity) else [])


def _parameters(parameters: Any) -> tuple[dict[str, Any], tuple[int | None, int | None]]:
    if parameters is None:
        return {}, (None, None)
    given = dict(parameters.map or {})
    if any(value is None for value in given.values()):
        raise errors.api_usage("Parameter argument may not be null.")
    page = parameters.theFilter
    if page is None:
        return given, (None, None)
    return given, (
        None if page.offset is None else page.offset.val,
        None if page.limit is None else page.limit.val,
    )


def _refuse_empty_lists(transaction: Transaction, text: str, given: dict[str, Any]) -> None:
    """An empty list makes SQL that the server does not parse; the message shows the query without it."""
    for name, value in given.items():
        if isinstance(value, (omero.RCollection, omero.RArray)) and not value.val:
            shown, count = re.subn(rf":{re.escape(name)}\b", "", text)
            if count:
                raise errors.api_usage(f"unexpected end of subtree [{_imported(transaction, shown)}]")


def _imported(transaction: Transaction, text: str) -> str:
    """The query with the classes' full names, as messages show it."""

    def full(match: re.Match[str]) -> str:
        cls = transaction.graph.schema.classes.get(match[2])
        return match[1] + (cls.java if cls is not None else match[2])

    return re.sub(r"(?i)((?:\bfrom|\bupdate|,)\s+)([A-Za-z_]\w*)", full, text)


def _present(value: Any) -> tuple[Any, ...]:
    return () if value is None else (value,)


def _first_of(values: Any, base: Evaluate) -> Evaluate:
    def first(env: Env) -> Any:
        one = base(env)
        return None if one is None else next(iter(values(one)), None)

    return first
