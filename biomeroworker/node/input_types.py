"""Numbers of a script's inputs, in the types that the script declares.

A client may send a whole number for a Float, 12.0 for an Int, or one ID for a list of IDs; OMERO's own check refuses
them. Here they are converted if the value does not change; that check handles all other cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import omero
import omero.rtypes

_MAKERS = {
    omero.RInt: omero.rtypes.rint,
    omero.RLong: omero.rtypes.rlong,
    omero.RFloat: omero.rtypes.rfloat,
    omero.RDouble: omero.rtypes.rdouble,
}
_WHOLE = (omero.RInt, omero.RLong)
_RINT_MAX = 2**31 - 1


def converted_numbers(params: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs whose number is of another type than the script declares, converted; others are left out.

    Parameters
    ----------
    params
        The script's ``omero.grid.JobParams``.
    """
    found = {}
    for name, param in params.inputs.items():
        value = _converted(param.prototype, inputs.get(name))
        if value is not None:
            found[name] = value
    return found


def _converted(declared: Any, given: Any) -> Any:
    if isinstance(declared, omero.RList) and isinstance(given, _WHOLE):
        of_ids = bool(declared.getValue()) and isinstance(declared.getValue()[0], omero.RLong)
        return omero.rtypes.rlist([omero.rtypes.rlong(given.getValue())]) if of_ids else None
    kind = next((one for one in _MAKERS if isinstance(declared, one)), None)
    if kind is None or not isinstance(given, tuple(_MAKERS)) or isinstance(given, kind):
        return None
    number: Any = given.getValue()  # type: ignore[attr-defined]
    if kind in _WHOLE and (not float(number).is_integer() or (kind is omero.RInt and abs(number) > _RINT_MAX)):
        return None
    return _MAKERS[kind](int(number) if kind in _WHOLE else float(number))
