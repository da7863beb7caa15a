"""What may stand in an event: plain values, and no secret."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any
from uuid import UUID

from biomeroworker.domain.redaction import mask_credentials
from biomeroworker.errors import RequestRejected

_SECRET_WORDS = frozenset({
    "password", "passwd", "pwd", "passphrase", "secret", "token", "credential", "credentials", "apikey", "privatekey",
})  # fmt: skip
#: What PostgreSQL's text, or UTF-8, has no place for: a container may print it, a file may be called so.
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")


def to_json_values(value: Any) -> Any:
    """``value`` as JSON knows it (dates and UUIDs stay: the log has words for them), with logins in URLs masked.

    What was recorded now and what is read back tomorrow must be equal, or "nothing changed" could not be told.
    """
    match value:
        case None | bool() | int() | float() | datetime() | UUID():
            return value.value if isinstance(value, enum.Enum) else value
        case str():
            return sanitize(str(value))
        case enum.Enum():
            return to_json_values(value.value)
        case Mapping():
            return {str(to_json_values(key)): to_json_values(item) for key, item in value.items()}
        case PurePath():
            return str(value)
        case Iterable():
            return [to_json_values(item) for item in value]
    raise TypeError(f"cannot be written to the log: {value!r}")


def sanitize(text: str) -> str:
    """``text`` as the log keeps it: no password, and nothing that a database refuses, which would leave no record."""
    return _UNKEPT.sub("\ufffd", mask_credentials(text))


def refuse_secrets(value: Any, path: str = "request") -> None:
    """Raise `RequestRejected` when a request carries something that looks like a password: the log is for ever."""
    match value:
        case Mapping():
            for key, item in value.items():
                words = {word.lower() for word in _WORDS.findall(str(key))}
                whole = re.sub(r"[^a-z]", "", str(key).lower())
                if item and isinstance(item, str) and (words & _SECRET_WORDS or whole in _SECRET_WORDS):
                    raise RequestRejected(
                        f"{path}.{key} looks like a secret: a run's request is kept for ever, leave it out"
                    )
                refuse_secrets(item, f"{path}.{key}")
        case str():
            if mask_credentials(value) != value:
                raise RequestRejected(
                    f"{path} holds a URL with a password: a run's request is kept for ever, leave it out"
                )
        case list() | tuple() | set() | frozenset():
            for number, item in enumerate(value):
                refuse_secrets(item, f"{path}[{number}]")


def whole_percent(progress: str | float | None) -> str | None:
    """A job's progress as ``43%``: whole percents are all that is recorded, so that a chatty job cannot fill the log.

    Text that holds no number is kept as it is.
    """
    if progress is None:
        return None
    text = str(progress).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        return text or None
    if number != number:  # NaN
        return None
    return f"{int(max(0.0, min(number, 100.0)))}%"
