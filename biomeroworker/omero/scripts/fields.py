"""Fields of a script's dialog, and values, for the types that descriptors have."""

from __future__ import annotations

from typing import Any

import omero.rtypes
import omero.scripts

_KINDS = {"integer": "Int", "int": "Int", "float": "Float", "number": "Float", "boolean": "Bool"}


def field(kind: str, default: Any, *args: Any, **more: Any) -> Any:
    """An ``omero.scripts`` field: Int, Float, Bool, or String for everything else."""
    made = getattr(omero.scripts, _KINDS.get(str(kind).lower(), "String"))
    return made(*args, default=default, **more) if default is not None else made(*args, **more)


def value(kind: str, given: Any) -> Any:
    """A value as an ``omero.rtypes`` object of that type."""
    match _KINDS.get(str(kind).lower()):
        case "Int":
            return omero.rtypes.rlong(int(given))
        case "Float":
            return omero.rtypes.rdouble(float(given))
        case "Bool":
            return omero.rtypes.rbool(str(given).strip().lower() in ("true", "1", "yes", "on"))
    return omero.rtypes.rstring("" if given is None else str(given))
