"""Inputs and outputs of a session, as they come back after the server has held them.

The real server keeps Java values: sets come back as lists, null is no value at all, and arrays never come back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import omero
import omero.clients
from omero.rtypes import rlist, rmap

from omero_stand_in import errors

#: Room in the map that a session keeps; seen in the order of names that share a place in a smaller one.
SESSION_BUCKETS = 32
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


def _place(key: str, buckets: int) -> int:
    """The bucket of a key in a Java HashMap."""
    code = 0
    units = key.encode("utf-16-be")
    for first, second in zip(units[::2], units[1::2], strict=True):
        code = (31 * code + (first << 8 | second)) & 0xFFFFFFFF
    return (code ^ code >> 16) & (buckets - 1)


def in_java_order(values: Mapping[str, Any], buckets: int = 16) -> dict[str, Any]:
    """The same map in the order in which a Java HashMap gives it: clients show inputs and results in it."""
    while len(values) > buckets * 3 // 4:
        buckets *= 2
    return {key: values[key] for key in sorted(values, key=lambda key: _place(key, buckets))}


def put(values: dict[str, Any], name: str, value: omero.RType | None) -> None:
    """Keep a value under a name; null takes it away."""
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value


def given_back(value: Any) -> Any:
    """A stored value as clients get it."""
    if isinstance(value, omero.RArray):
        kinds = {name for held in value.val or () for kind, name in JAVA.items() if isinstance(held, kind)}
        kind = kinds.pop() if len(kinds) == 1 else "java.lang.Object"
        raise errors.api_usage(f"Unsupported conversion to rtype from [L{kind};")
    if isinstance(value, omero.RCollection):
        return rlist([given_back(held) for held in value.val or ()])
    if isinstance(value, omero.RMap):
        return rmap(all_of(value.val or {}))
    return value


def all_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """All values as clients get them: out of a session's roomier map into one of the usual size."""
    return in_java_order({name: given_back(values[name]) for name in in_java_order(values, SESSION_BUCKETS)})
