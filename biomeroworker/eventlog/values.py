"""The values of events: plain JSON values without secrets."""

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
#: Characters that PostgreSQL or UTF-8 cannot store. They occur in the output of containers and in file names.
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")


def to_json_values(value: Any) -> Any:
    """Convert a value to JSON values, with credentials in URLs masked. Dates and UUIDs remain as they are.

    A recorded value and the value that is read back must be equal, because an unchanged value is not recorded again.
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
    raise TypeError(f"an event cannot contain this value: {value!r}")


def sanitize(text: str) -> str:
    """Mask credentials, and replace characters that a database refuses, so that the text can be recorded."""
    return _UNKEPT.sub("\ufffd", mask_credentials(text))


def refuse_secrets(value: Any, path: str = "request") -> None:
    """Raise `RequestRejected` if a request contains what looks like a password: events are never deleted."""
    match value:
        case Mapping():
            for key, item in value.items():
                words = {word.lower() for word in _WORDS.findall(str(key))}
                whole = re.sub(r"[^a-z]", "", str(key).lower())
                if item and isinstance(item, str) and (words & _SECRET_WORDS or whole in _SECRET_WORDS):
                    raise RequestRejected(
                        f"{path}.{key} looks like a secret. Requests are recorded permanently: remove it"
                    )
                refuse_secrets(item, f"{path}.{key}")
        case str():
            if mask_credentials(value) != value:
                raise RequestRejected(
                    f"{path} contains a URL with a password. Requests are recorded permanently: remove the password"
                )
        case list() | tuple() | set() | frozenset():
            for number, item in enumerate(value):
                refuse_secrets(item, f"{path}[{number}]")


def whole_percent(progress: str | float | None) -> str | None:
    """The progress of a job in whole percents (``43%``), so that a job with frequent updates cannot fill the log.

    A text without a number is returned as it is.
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
