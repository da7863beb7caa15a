"""Finding objects by plain values, without a query language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from omero_stand_in import errors

from .entity import Entity

if TYPE_CHECKING:
    from .transaction import Transaction


def criteria(
    transaction: Transaction,
    name: str,
    wanted: dict[str, Any],
    like: bool = False,
) -> list[Entity]:
    """Visible objects whose fields have these values, or are like them (``%`` and ``_``, in any case)."""
    cls = transaction.cls(name)
    for field in wanted:
        if field != "id" and field not in cls.fields:
            raise errors.api_usage(f"could not resolve property: {field} of: {cls.java}")
    if not like:
        return [one for one in transaction.rows(name) if all(one.get(f) == value for f, value in wanted.items())]
    patterns = {f: re.compile(_regex(str(value)), re.DOTALL | re.IGNORECASE) for f, value in wanted.items()}
    return [
        one
        for one in transaction.rows(name)
        if all(one.get(f) is not None and pattern.fullmatch(str(one.get(f))) for f, pattern in patterns.items())
    ]


def page(found: list[Any], filter_: Any) -> list[Any]:
    """The part of a list that an omero.sys.Filter selects."""
    if filter_ is None:
        return found
    begin = max(filter_.offset.val, 0) if filter_.offset is not None else 0
    if filter_.limit is None or filter_.limit.val < 0:
        return found[begin:]
    return found[begin : begin + filter_.limit.val]


def _regex(like: str) -> str:
    return "".join({"%": ".*", "_": "."}.get(one) or re.escape(one) for one in like)
