"""Expressions of a query as Python closures over the aliases' values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import omero
import omero.clients

from omero_stand_in import errors

from . import functions, tree
from .parser import HqlSyntaxError
from .scope import Env, Scope, Value

if TYPE_CHECKING:
    from .execute import Plan

#: Types of parameters that a value of a type may be compared with.
EXPECTED = {
    "RString": omero.RString,
    "RInt": omero.RInt,
    "RLong": omero.RLong,
    "RDouble": omero.RDouble,
    "RBool": omero.RBool,
    "RTime": omero.RTime,
}
NUMBERS = ("RInt", "RLong", "RDouble")
SQL_FAULT = "could not execute query; SQL [...]; nested exception is org.hibernate.exception.SQLGrammarException"


class Compiler:
    """Compiles the expressions of one query."""

    def __init__(self, scope: Scope, plan: Callable[[tree.Query, Scope], Plan]) -> None:
        self.scope, self._plan = scope, plan

    def compile(self, expr: tree.Expr, selected: bool = False) -> Value:
        """The closure of an expression."""
        if isinstance(expr, tree.Path):
            return self.scope.path(expr.names, selected)
        if isinstance(expr, tree.Literal):
            value = expr.value
            return Value(expr.type, lambda env: value)
        if isinstance(expr, tree.Parameter):
            return self._parameter(expr)
        method = getattr(self, "_" + type(expr).__name__.lower())
        answer: Value = method(expr)
        return answer

    # -- parameters -------------------------------------------------------------------------------------------------
    def given(self, name: str) -> Any:
        """The RType of a parameter."""
        if name == "?":
            raise errors.api_usage("Positional parameters are not supported: ?")
        if name not in self.scope.parameters:
            raise errors.api_usage(f"Null parameters not allowed: {name}")
        return self.scope.parameters[name]

    def _parameter(self, expr: tree.Parameter) -> Value:
        given = self.given(expr.name)
        kind = next((name for name, cls in EXPECTED.items() if isinstance(given, cls)), "")
        value = unwrapped(given)
        return Value(kind, lambda env: value)

    def _check(self, expr: tree.Expr, wanted: str) -> None:
        """A parameter compared with a value of a type must be of that type."""
        if not isinstance(expr, tree.Parameter) or wanted not in (*EXPECTED, "entity"):
            return
        given = self.given(expr.name)
        members = given.val if isinstance(given, (omero.RCollection, omero.RArray)) else [given]
        for one in members:
            kinds = (omero.RLong, omero.RObject) if wanted == "entity" else (EXPECTED[wanted],)
            if one is not None and not isinstance(one, kinds):
                java = {"RString": "String", "RInt": "Integer", "RLong": "Long", "RDouble": "Double"}
                have, want = (java.get(name, name) for name in (type(one).__name__.rstrip("I"), wanted))
                raise errors.internal(
                    " Wrapped Exception: (java.lang.ClassCastException):\n"
                    f"class java.lang.{have} cannot be cast to class java.lang.{want}"
                )

    # -- predicates -------------------------------------------------------------------------------------------------
    def _binary(self, expr: tree.Binary) -> Value:
        left, right = self.compile(expr.left), self.compile(expr.right)
        one, other, operator = left.evaluate, right.evaluate, expr.operator
        if operator == "and":
            return Value("RBool", lambda env: _and(one(env), other(env)))
        if operator == "or":
            return Value("RBool", lambda env: _or(one(env), other(env)))
        self._check(expr.left, right.type)
        self._check(expr.right, left.type)
        if operator == "like":
            return Value("RBool", lambda env: _like(one(env), other(env)))
        if operator == "||":
            joined = functions.PLAIN["concat"][0]
            return Value("RString", lambda env: _if_all(joined, one, other, env))
        if operator in ("+", "-", "*", "/"):
            return self._arithmetic(operator, left, right)
        if "unit name" in (left.type, right.type) and not isinstance(expr.right, tree.Parameter):
            raise errors.validation(SQL_FAULT)  # text against the database's enumeration
        if "class" in (left.type, right.type):
            return Value("RBool", lambda env: _same_class(operator, one(env), other(env)))
        return Value("RBool", lambda env: functions.compare(operator, one(env), other(env)))

    def _arithmetic(self, operator: str, left: Value, right: Value) -> Value:
        kinds = [kind for kind in (left.type, right.type) if kind in NUMBERS]
        kind = max(kinds, key=NUMBERS.index) if kinds else ""
        calculate: Callable[[Any, Any], Any] = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": (lambda a, b: a / b) if kind == "RDouble" else (lambda a, b: int(a / b)),
        }[operator]
        return Value(kind, lambda env: _if_all(calculate, left.evaluate, right.evaluate, env))

    def _not(self, expr: tree.Not) -> Value:
        inner = self.compile(expr.operand).evaluate
        return Value("RBool", lambda env: None if (value := inner(env)) is None else not value)

    def _isnull(self, expr: tree.IsNull) -> Value:
        inner = self.compile(expr.operand).evaluate
        return Value("RBool", lambda env: inner(env) is None)

    def _isempty(self, expr: tree.IsEmpty) -> Value:
        inner = self.compile(expr.collection)
        if inner.type != "collection":
            raise HqlSyntaxError("is empty of something that is no collection")
        return Value("RBool", lambda env: not inner.evaluate(env))

    def _memberof(self, expr: tree.MemberOf) -> Value:
        inner, members = self.compile(expr.operand).evaluate, self.compile(expr.collection).evaluate
        return Value("RBool", lambda env: functions.comparable(inner(env)) in [one.id for one in members(env)])

    def _between(self, expr: tree.Between) -> Value:
        value, low, high = (self.compile(one) for one in (expr.operand, expr.low, expr.high))
        for bound in (expr.low, expr.high):
            self._check(bound, value.type)

        def within(env: Env) -> Any:
            middle = value.evaluate(env)
            return _and(
                functions.compare("<=", low.evaluate(env), middle), functions.compare("<=", middle, high.evaluate(env))
            )

        return Value("RBool", within)

    def _exists(self, expr: tree.Exists) -> Value:
        if isinstance(expr.source, tree.Elements):
            raise errors.validation(SQL_FAULT)  # the real server makes SQL of it that its database refuses
        plan = self._plan(expr.source, self.scope)
        return Value("RBool", lambda env: plan.any(env))

    def _in(self, expr: tree.In) -> Value:
        operand = self.compile(expr.operand)
        if isinstance(expr.members, tree.Elements):
            raise errors.validation(SQL_FAULT)
        if isinstance(expr.members, tree.Query):
            plan = self._plan(expr.members, self.scope)
            return Value("RBool", lambda env: _within(operand.evaluate(env), _set(plan.column(env))))
        for member in expr.members:
            self._check(member, operand.type)
        members = [self.compile(member) for member in expr.members]
        if all(isinstance(member, (tree.Parameter, tree.Literal)) for member in expr.members):
            fixed = _set(member.evaluate({}) for member in members)
            return Value("RBool", lambda env: _within(operand.evaluate(env), fixed))
        return Value(
            "RBool",
            lambda env: _within(operand.evaluate(env), _set(member.evaluate(env) for member in members)),
        )

    # -- values -----------------------------------------------------------------------------------------------------
    def _elements(self, expr: tree.Elements) -> Value:
        raise HqlSyntaxError("elements() is not implemented here")

    def _subquery(self, expr: tree.Subquery) -> Value:
        plan = self._plan(expr.query, self.scope)
        return Value(plan.types[0], lambda env: next(iter(plan.column(env, ordered=True)), None))

    def _case(self, expr: tree.Case) -> Value:
        branches = [(self.compile(test).evaluate, self.compile(value)) for test, value in expr.branches]
        otherwise = self.compile(expr.otherwise) if expr.otherwise is not None else None

        def choose(env: Env) -> Any:
            for test, value in branches:
                if test(env):
                    return value.evaluate(env)
            return otherwise.evaluate(env) if otherwise is not None else None

        return Value(branches[0][1].type, choose)

    def _call(self, expr: tree.Call) -> Value:
        if expr.name in functions.AGGREGATES:
            return self._aggregate(expr)
        if expr.name == "size":
            return self._size(expr)
        arguments = [self.compile(argument) for argument in expr.arguments]
        evaluate = [argument.evaluate for argument in arguments]
        first = arguments[0] if arguments else Value("", lambda env: None)
        if expr.name == "coalesce":
            return Value(first.type, lambda env: next((v for one in evaluate if (v := one(env)) is not None), None))
        if expr.name == "nullif":
            return Value(first.type, lambda env: None if evaluate[0](env) == evaluate[1](env) else evaluate[0](env))
        if expr.name == "type":
            return Value("class", lambda env: getattr(one := evaluate[0](env), "cls", one))
        if expr.name == "index":
            return Value("RInt", lambda env: _index(evaluate[0](env)))
        if expr.name == "distinct":
            return first
        if expr.name == "cast":
            cast = functions.CASTS.get(arguments[1].evaluate({}))
            if cast is None:
                raise HqlSyntaxError(f"cast to {arguments[1].evaluate({})} is not implemented")
            function, kind = cast
            return Value(kind, lambda env: None if (value := evaluate[0](env)) is None else function(value))
        if expr.name not in functions.PLAIN:
            raise HqlSyntaxError(f"the function {expr.name} is not implemented")
        function, kind = functions.PLAIN[expr.name]
        return Value(first.type if kind == "same" else kind, lambda env: _call_plain(function, evaluate, env))

    def _size(self, expr: tree.Call) -> Value:
        inner = self.compile(expr.arguments[0])
        if inner.type != "collection":
            raise HqlSyntaxError("size() of something that is no collection")
        if self.in_where:
            raise errors.validation(SQL_FAULT)  # as for exists elements(...)
        return Value("RInt", lambda env: len(inner.evaluate(env)))

    #: Set while the where clause is compiled.
    in_where = False

    def _aggregate(self, expr: tree.Call) -> Value:
        name = expr.name
        if expr.every:
            return Value("RLong", lambda env: len(env["#group"]))
        inner = self.compile(expr.arguments[0])
        distinct = expr.distinct
        argument = expr.arguments[0]
        if isinstance(argument, tree.Call) and argument.name == "distinct":
            inner, distinct = self.compile(argument.arguments[0]), True
        place = name in ("minindex", "maxindex")
        evaluate = (lambda env: _index(inner.evaluate(env))) if place else inner.evaluate
        kinds = {"count": "RLong", "avg": "RDouble", "minindex": "RInt", "maxindex": "RInt"}
        kind = kinds.get(name, inner.type)
        if name == "sum" and kind == "RInt":
            kind = "RLong"

        def over(env: Env) -> Any:
            values = [value for row in env["#group"] if (value := evaluate(row)) is not None]
            if distinct:
                values = list({functions.key(value): value for value in values}.values())
            return functions.aggregate(name, values)

        return Value(kind, over)


def unwrapped(value: Any) -> Any:
    """A parameter's Python value."""
    if isinstance(value, (omero.RCollection, omero.RArray)):
        return [unwrapped(one) for one in value.val]
    if isinstance(value, omero.RObject):
        return value.val.id.val
    return value.val if isinstance(value, omero.RType) else value


def _set(values: Any) -> frozenset[Any]:
    """The values of a list, lists in it opened, objects by id."""
    answer: list[Any] = []
    for value in values:
        answer.extend(value if isinstance(value, list) else [value])
    return frozenset(functions.comparable(value) for value in answer)


def _within(value: Any, members: frozenset[Any]) -> bool | None:
    return None if value is None else functions.comparable(value) in members


def _same_class(operator: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    if isinstance(left, str) or isinstance(right, str):
        names = [one if isinstance(one, str) else one.name for one in (left, right)]
        same = names[0].rpartition(".")[2] == names[1].rpartition(".")[2]
    else:
        same = left is right
    return same if operator == "=" else not same


def _index(entity: Any) -> int | None:
    if entity is None:
        return None
    if isinstance(entity, tuple):  # an entry of a map knows its own place
        return int(entity[2])
    return next((value for name, value in entity.values.items() if name.endswith("#")), 0)


def _and(left: Any, right: Any) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: Any, right: Any) -> bool | None:
    if left or right:
        return True
    return None if left is None or right is None else False


def _like(value: Any, like: Any) -> bool | None:
    if value is None or like is None:
        return None
    return functions.pattern(like).fullmatch(value) is not None


def _if_all(function: Any, left: Any, right: Any, env: Env) -> Any:
    one, other = left(env), right(env)
    return None if one is None or other is None else function(one, other)


def _call_plain(function: Any, evaluate: list[Any], env: Env) -> Any:
    values = [one(env) for one in evaluate]
    return None if any(value is None for value in values) else function(*values)
