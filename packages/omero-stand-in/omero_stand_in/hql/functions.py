"""The functions of HQL, on Python values; null in, null out unless stated otherwise."""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from omero_stand_in.graph.entity import Entity

AGGREGATES = {"count", "sum", "min", "max", "avg", "minindex", "maxindex"}


def text(value: Any) -> str:
    """A value as the database casts it to text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def substring(value: str, start: int, length: int | None = None) -> str:
    """SQL's substring: counted from 1."""
    begin = max(start - 1, 0)
    return value[begin:] if length is None else value[begin : max(start - 1 + length, 0)]


def extract(part: str, milliseconds: int) -> Any:
    """A part of a time."""
    if part == "epoch":
        return milliseconds / 1000
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000)
    return getattr(moment, part)


#: name -> (function, type of the result; "same" for that of the first argument)
PLAIN: dict[str, tuple[Callable[..., Any], str]] = {
    "lower": (lambda value: value.lower(), "RString"),
    "upper": (lambda value: value.upper(), "RString"),
    "length": (len, "RInt"),
    "char_length": (len, "RInt"),
    "trim": (lambda value: value.strip(" "), "RString"),
    "str": (text, "RString"),
    "concat": (lambda *values: "".join(text(value) for value in values), "RString"),
    "substring": (substring, "RString"),
    "locate": (lambda what, value, start=1: value.find(what, start - 1) + 1, "RInt"),
    "abs": (abs, "same"),
    "sqrt": (lambda value: value**0.5, "RDouble"),
    "mod": (lambda one, other: int(math.fmod(one, other)), "same"),
    "extract": (extract, "RDouble"),
    "year": (lambda value: extract("year", value), "RInt"),
    "month": (lambda value: extract("month", value), "RInt"),
    "day": (lambda value: extract("day", value), "RInt"),
    "hour": (lambda value: extract("hour", value), "RInt"),
    "minute": (lambda value: extract("minute", value), "RInt"),
    "second": (lambda value: extract("second", value), "RInt"),
    "substr": (substring, "RString"),
    "md5": (lambda value: hashlib.md5(value.encode(), usedforsecurity=False).hexdigest(), "RString"),
    "sign": (lambda value: (value > 0) - (value < 0), "RInt"),
    "floor": (math.floor, "same"),
    "ceil": (math.ceil, "same"),
}

CASTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "string": (text, "RString"),
    "text": (text, "RString"),
    "long": (int, "RLong"),
    "int": (int, "RInt"),
    "integer": (int, "RInt"),
    "double": (float, "RDouble"),
    "float": (float, "RDouble"),
    "big_decimal": (float, "RDouble"),
}


@lru_cache(maxsize=200)
def pattern(like: str) -> re.Pattern[str]:
    """A ``like`` pattern: ``%`` and ``_``, escaped by a backslash."""
    parts, characters = [], iter(like)
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "")))
        else:
            parts.append({"%": ".*", "_": "."}.get(character) or re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def comparable(value: Any) -> Any:
    """What a value is compared by: objects by id."""
    return value.id if isinstance(value, Entity) else value


def key(value: Any) -> Any:
    """Something hashable that is equal for equal values."""
    if isinstance(value, Entity):
        return (value.cls.root.name, value.id)
    if isinstance(value, list):
        return tuple(key(one) for one in value)
    return value


def compare(operator: str, left: Any, right: Any) -> bool | None:
    """SQL's comparison: unknown when one side is null."""
    if left is None or right is None:
        return None
    left, right = comparable(left), comparable(right)
    if isinstance(left, str) != isinstance(right, str):
        left, right = (int(left), right) if isinstance(left, str) else (left, int(right))
    if operator == "=":
        return bool(left == right)
    if operator == "<>":
        return bool(left != right)
    if operator == "<":
        return bool(left < right)
    if operator == ">":
        return bool(left > right)
    return bool(left <= right) if operator == "<=" else bool(left >= right)


def aggregate(name: str, values: list[Any]) -> Any:
    """An aggregate of the values that are not null."""
    if name == "count":
        return len(values)
    if not values:
        return None
    if name == "sum":
        return sum(values)
    if name == "avg":
        return sum(values) / len(values)
    return min(values) if name.startswith("min") else max(values)
