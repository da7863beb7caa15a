"""Fields of a script's dialog, and values, for the types that descriptors have.

OMERO's libraries are imported at the first call: the rest of `biomero` works without them.
"""

from __future__ import annotations

import importlib
from typing import Any

#: The field of ``omero.scripts``, and the value of ``omero.rtypes``, for each type of biomero-schema.
_KINDS = {
    "integer": ("Int", "rint"),
    "float": ("Float", "rfloat"),
    "boolean": ("Bool", "rbool"),
    "string": ("String", "rstring"),
    "image": ("String", "rstring"),
    "file": ("String", "rstring"),
}
_TRUE = ("true", "1", "yes", "on")


def kind_of(schema_type: str, default: Any) -> str:
    """The type's name in lower case; a BIAFLOWS ``Number`` is a float if its default is one, else an integer."""
    kind = str(schema_type).lower()
    if kind == "number":
        return "float" if isinstance(default, float) else "integer"
    return kind


def field(schema_type: str, default: Any, /, *args: Any, **more: Any) -> Any:
    """An ``omero.scripts`` field, made from the remaining arguments; a String for unknown types."""
    name, _ = _KINDS.get(kind_of(schema_type, default), _KINDS["string"])
    return getattr(importlib.import_module("omero.scripts"), name)(*args, **more)


def value(schema_type: str, default: Any, given: Any) -> Any:
    """A value as the ``omero.rtypes`` object that the type's field takes.

    Raises
    ------
    ValueError
        The type is unknown, or the value is not of the type.
    """
    kind = kind_of(schema_type, default)
    check(schema_type)
    made = getattr(importlib.import_module("omero.rtypes"), _KINDS[kind][1])
    match kind:
        case "integer":
            return made(int(float(given)))
        case "float":
            return made(float(given))
        case "boolean":
            return made(str(given).strip().lower() in _TRUE)
    return made("" if given is None else str(given))


def check(schema_type: str) -> None:
    """Raise ValueError for a type that no descriptor has."""
    if kind_of(schema_type, None) not in _KINDS:
        raise ValueError(f"unsupported type {schema_type!r}; known are Number, {', '.join(_KINDS)}")
