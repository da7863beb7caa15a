"""From HQL text to a `tree.Query`."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path as File
from typing import Any

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import LarkError, UnexpectedToken

from . import tree


class HqlSyntaxError(Exception):
    """The text is no query, or uses what this server does not know.

    Messages show the query: ``as_sent``, or with the classes' full names once those are known; ``bare``, without it.
    """

    def __init__(self, message: str, shown: str = "full") -> None:
        super().__init__(message)
        self.shown = shown


@cache
def _lark() -> Lark:
    text = File(__file__).with_name("grammar.lark").read_text()
    return Lark(text, parser="lalr", maybe_placeholders=True, start="start")


def _names(token: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in token.split("."))


@v_args(inline=True)
class _Builder(Transformer[Any, Any]):
    """One method per rule of the grammar."""

    # -- clauses ----------------------------------------------------------------------------------------------------
    def query(self, select: Any, sources: Any, where: Any, group: Any, order: Any) -> tree.Query:
        items, distinct, new_map = select or ((), False, False)
        keys, having = group or ((), None)
        return tree.Query(items, distinct, new_map, sources, where, keys, having, order or ())

    def select(self, _: Any, distinct: Any, items: Any) -> Any:
        return items, distinct is not None, False

    def select_map(self, _: Any, distinct: Any, __: Any, items: Any) -> Any:
        return items, distinct is not None, True

    def items(self, *items: tree.Item) -> Any:
        return items

    def item(self, expr: tree.Expr, _: Any, alias: Any) -> tree.Item:
        return tree.Item(expr, None if alias is None else str(alias))

    def from_(self, _: Any, *sources: Any) -> Any:
        return sources

    def source(self, name: Token, _: Any, alias: Any) -> tree.Source:
        place = (name.start_pos or 0, name.end_pos or 0)
        return tree.Source(".".join(_names(name)), "" if alias is None else str(alias), place)

    def join(
        self, side: Any, _: Any, fetch: Any, path: Any, __: Any, alias: Any, ___: Any, condition: Any
    ) -> tree.Join:
        if side in ("right", "full"):
            raise HqlSyntaxError(f"{side} join is not implemented")
        name = None if alias is None else str(alias)
        return tree.Join(_names(path), name, side == "left", fetch is not None, condition)

    def side(self, kind: Token, *_: Any) -> str:
        return str(kind).lower()

    def where(self, _: Any, expr: Any) -> Any:
        return expr

    def group(self, _: Any, exprs: Any, __: Any, having: Any) -> Any:
        return exprs, having

    def order(self, _: Any, *orderings: Any) -> Any:
        return orderings

    def ordering(self, expr: Any, direction: Any) -> tree.Ordering:
        return tree.Ordering(expr, direction is not None and direction.lower() == "desc")

    def exprs(self, *exprs: Any) -> Any:
        return exprs

    def dml(self, verb: Token, rest: Token) -> tree.Dml:
        return tree.Dml(f"{verb} {rest}")

    # -- predicates -------------------------------------------------------------------------------------------------
    def either(self, left: Any, _: Any, right: Any) -> Any:
        return tree.Binary("or", left, right)

    def both(self, left: Any, _: Any, right: Any) -> Any:
        return tree.Binary("and", left, right)

    def negate(self, _: Any, operand: Any) -> Any:
        return tree.Not(operand)

    def compare(self, left: Any, operator: Token, right: Any) -> Any:
        operator_name = {"!=": "<>", "^=": "<>"}.get(str(operator), str(operator))
        for one, other in ((left, right), (right, left)):
            if isinstance(other, tree.Literal) and other.value is None and operator_name in ("=", "<>"):
                test = tree.IsNull(one)  # as Hibernate reads a comparison with null
                return test if operator_name == "=" else tree.Not(test)
        return tree.Binary(operator_name, left, right)

    def within(self, operand: Any, negated: Any, _: Any, members: Any) -> Any:
        return _not_if(negated, tree.In(operand, members))

    def members(self, what: Any) -> Any:
        if isinstance(what, Token):
            return (tree.Parameter(str(what)[1:]),)
        return what

    def members_elements(self, _: Any, path: Any) -> Any:
        return tree.Elements(tree.Path(_names(path)))

    def like(self, operand: Any, negated: Any, _: Any, pattern: Any, escape: Any) -> Any:
        if escape is not None:
            raise HqlSyntaxError("like ... escape is not implemented")
        return _not_if(negated, tree.Binary("like", operand, pattern))

    def between(self, operand: Any, negated: Any, _: Any, low: Any, __: Any, high: Any) -> Any:
        return _not_if(negated, tree.Between(operand, low, high))

    def is_null(self, operand: Any, _: Any, negated: Any, __: Any) -> Any:
        return _not_if(negated, tree.IsNull(operand))

    def is_empty(self, operand: Any, _: Any, negated: Any, __: Any) -> Any:
        return _not_if(negated, tree.IsEmpty(operand))

    def member_of(self, operand: Any, negated: Any, _: Any, __: Any, path: Any) -> Any:
        return _not_if(negated, tree.MemberOf(operand, tree.Path(_names(path))))

    def exists(self, _: Any, query: Any) -> Any:
        return tree.Exists(query)

    def exists_elements(self, _: Any, __: Any, path: Any) -> Any:
        return tree.Exists(tree.Elements(tree.Path(_names(path))))

    # -- values -----------------------------------------------------------------------------------------------------
    def arithmetic(self, left: Any, operator: Token, right: Any) -> Any:
        return tree.Binary(str(operator), left, right)

    def minus(self, _: Any, operand: Any) -> Any:
        if isinstance(operand, tree.Literal):
            return tree.Literal(-operand.value, operand.type)
        return tree.Binary("-", tree.Literal(0, "RInt"), operand)

    def plus(self, _: Any, operand: Any) -> Any:
        return operand

    def path(self, token: Token) -> Any:
        return tree.Path(_names(token))

    def parameter(self, token: Token) -> Any:
        return tree.Parameter(str(token)[1:])

    def positional(self, _: Token) -> Any:
        return tree.Parameter("?")

    def string(self, token: Token) -> Any:
        return tree.Literal(str(token)[1:-1].replace("''", "'"), "RString")

    def integer(self, token: Token) -> Any:
        return tree.Literal(int(token.rstrip("lL")), "RLong" if token[-1] in "lL" else "RInt")

    def decimal(self, token: Token) -> Any:
        return tree.Literal(float(token.rstrip("fFdD")), "RDouble")

    def true(self, _: Any) -> Any:
        return tree.Literal(True, "RBool")

    def false(self, _: Any) -> Any:
        return tree.Literal(False, "RBool")

    def null(self, _: Any) -> Any:
        return tree.Literal(None, "")

    def call(self, name: Token, distinct: Any, arguments: Any) -> Any:
        return tree.Call(str(name).lower(), tuple(arguments), distinct is not None)

    def call_nothing(self, name: Token) -> Any:
        return tree.Call(str(name).lower(), ())

    def call_all(self, name: Token, _: Any) -> Any:
        return tree.Call(str(name).lower(), (), every=True)

    def elements(self, _: Any, path: Any) -> Any:
        return tree.Elements(tree.Path(_names(path)))

    def cast(self, operand: Any, _: Any, kind: Any) -> Any:
        return tree.Call("cast", (operand, tree.Literal(str(kind).lower(), "RString")))

    def extract(self, part: Any, _: Any, operand: Any) -> Any:
        return tree.Call("extract", (tree.Literal(str(part).lower(), "RString"), operand))

    def case(self, _: Any, *parts: Any) -> Any:
        exprs = [part for part in parts if isinstance(part, tree.Expr)]
        otherwise = exprs.pop() if len(exprs) % 2 else None
        return tree.Case(tuple(zip(exprs[::2], exprs[1::2], strict=True)), otherwise)

    def subquery(self, query: Any) -> Any:
        return tree.Subquery(query)


setattr(_Builder, "from", _Builder.from_)


def _not_if(negated: Any, expr: tree.Expr) -> tree.Expr:
    return expr if negated is None else tree.Not(expr)


@lru_cache(maxsize=500)
def parse(text: str) -> tree.Query | tree.Dml:
    """The query that a text is.

    Raises
    ------
    HqlSyntaxError
        When it is none.
    """
    lark = _lark()
    if not re.match(r"(?i)\s*(select|from|update|delete)\b", text):
        raise HqlSyntaxError("node to traverse cannot be null!", "bare")
    try:
        parsed = _Builder().transform(lark.parse(text))
    except UnexpectedToken as error:
        at_end = error.token.type == "$END"
        token = "null" if at_end else str(error.token)
        line, column = (
            (text.count("\n") + 1, len(text.rpartition("\n")[2]) + 1) if at_end else (error.line, error.column)
        )
        raise HqlSyntaxError(f"unexpected token: {token} near line {line}, column {column}", "as_sent") from error
    except LarkError as error:
        cause = getattr(error, "orig_exc", None)
        if isinstance(cause, HqlSyntaxError):
            raise cause from error
        raise HqlSyntaxError(str(error).splitlines()[0], "as_sent") from error
    return parsed
