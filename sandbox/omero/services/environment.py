"""Inputs and outputs of a session, as they come back after the server has held them.

The real server keeps Java values: sets come back as lists, null is no value at all, and arrays never come back.
"""

from __future__ import annotations

from typing import Any

import omero
import omero.clients
from omero.rtypes import rlist, rmap

from sandbox.omero import errors

#: Java's names for what an array holds.
JAVA = {
    omero.RLong: "java.lang.Long",
    omero.RInt: "java.lang.Integer",
    omero.RString: "java.lang.String",
    omero.RDouble: "java.lang.Double",
    omero.RFloat: "java.lang.Float",
    omero.RBool: "java.lang.Boolean",
    omero.RTime: "java.sql.Timestamp",
}


def put(values: dict[str, Any], name: str, value: omero.RType | None) -> None:
    """Keep a value under a name; null takes it away."""
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def given_back(value: Any) -> Any:
    """A kept value as clients get it."""
    if isinstance(value, omero.RArray):
        kinds = {name for held in value.val or () for kind, name in JAVA.items() if isinstance(held, kind)}
        kind = kinds.pop() if len(kinds) == 1 else "java.lang.Object"
        raise errors.api_usage(f"Unsupported conversion to rtype from [L{kind};")
    if isinstance(value, omero.RCollection):
        return rlist([given_back(held) for held in value.val or ()])
    if isinstance(value, omero.RMap):
        return rmap({name: given_back(held) for name, held in (value.val or {}).items()})
    return value


def all_of(values: dict[str, Any]) -> dict[str, Any]:
    """All values as clients get them."""
    return {name: given_back(value) for name, value in values.items()}
