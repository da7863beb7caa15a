"""Parameters of scripts in files, so that a node opens dialogs without delay after a restart, too.

The format is JSON with the class of each value. `omero.grid.JobParams` could be pickled, but unpickling can run code.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import omero.clients  # before other parts of omero
import omero.grid
import omero.rtypes

_OBJECTS: Mapping[str, Callable[[], Any]] = {"JobParams": omero.grid.JobParams, "Param": omero.grid.Param}
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "RBoolI": omero.rtypes.rbool,
    "RIntI": omero.rtypes.rint,
    "RLongI": omero.rtypes.rlong,
    "RFloatI": omero.rtypes.rfloat,
    "RDoubleI": omero.rtypes.rdouble,
    "RTimeI": omero.rtypes.rtime,
    "RStringI": omero.rtypes.rstring,
    "RListI": omero.rtypes.rlist,
    "RSetI": omero.rtypes.rset,
    "RArrayI": omero.rtypes.rarray,
    "RMapI": omero.rtypes.rmap,
}


def encode(value: Any) -> Any:
    """Convert a value of a parameter to JSON values.

    Raises
    ------
    TypeError
        No parameter has a value of this class.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    kind = type(value).__name__
    if kind in _OBJECTS:
        return {"object": kind, "fields": {name: encode(item) for name, item in vars(value).items()}}
    if kind in _VALUES:
        return {"value": kind, "val": encode(value.getValue())}
    raise TypeError(f"a parameter with a {kind}")


def decode(found: Any) -> Any:
    """Convert the result of `encode` back.

    Raises
    ------
    KeyError, TypeError, ValueError
        `encode` does not return such a value.
    """
    if isinstance(found, list):
        return [decode(item) for item in found]
    if not isinstance(found, dict):
        return found
    if "dict" in found:
        return {decode(key): decode(item) for key, item in found["dict"]}
    if "value" in found:
        return _VALUES[found["value"]](decode(found["val"]))
    made = _OBJECTS[found["object"]]()
    for name, item in found["fields"].items():
        setattr(made, name, decode(item))
    return made


class ParameterFiles:
    """A folder with one file per key. When there are more than ``limit`` files, the oldest ones are removed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit

    def read(self, key: str) -> tuple[float, Any] | None:
        """The time of storage (seconds since 1970) and the parameters; None if the file is missing or invalid."""
        file = self._file(key)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            return float(found["stored"]), decode(found["params"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.remove(key)
            return None

    def write(self, key: str, stored: float, params: Any) -> None:
        """Store parameters. If that fails, the file is removed, and the script is parsed again after a restart."""
        try:
            text = json.dumps({"stored": stored, "params": encode(params)})
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".new")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(temporary).replace(self._file(key))
            self._prune()
        except (OSError, TypeError):
            self.remove(key)

    def remove(self, key: str) -> None:
        """Remove the file of a key, if it exists."""
        with contextlib.suppress(OSError):
            self._file(key).unlink()

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _prune(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda file: file.stat().st_mtime)
        for file in files[: -self._limit]:
            file.unlink(missing_ok=True)
