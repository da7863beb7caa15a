"""Remove secrets from text that leaves this machine: known values, and text that has the form of a secret.

The values come from `biomeroworker.diagnostics.known_secrets`. The form finds secrets that this machine does not know:
passwords of others in a log line, keys, session ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from biomeroworker.domain.redaction import mask_credentials

MASK = "***"
#: Shorter values are not replaced: they would match ordinary words.
MIN_VALUE_CHARACTERS = 6

_SECRET_NAME = re.compile(r"pass(?!age|ed|es|ing|ive|_?on)|pwd|secret|token|key|credential", re.IGNORECASE)
#: Variables whose names only look like those of secrets.
_FOLDERS = ("PWD", "OLDPWD")

_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")

_NAMES = (
    r"(?:password|passwd|passphrase|pwd|secret|token|(?:api|private|access|secret|session|encryption)[_.-]?key"
    r"|session[_.-]?(?:id|uuid)|(?<![a-z])pass(?![a-z]))"
)
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, flags), replacement)
    for pattern, flags, replacement in (
        # the address of a webhook is a secret
        (r"(https?://[^\s/'\"]*hook[^\s/'\"]*/)[^\s'\"]+", re.IGNORECASE, rf"\1{MASK}"),
        (r"(https?://[^\s'\"]{0,300}/(?:web)?hooks?/)[^\s'\"]+", re.IGNORECASE, rf"\1{MASK}"),
        (r"(authorization['\"]?\s*[:=]\s*).+", re.IGNORECASE, rf"\1{MASK}"),
        (r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE, rf"\1 {MASK}"),
        # name = value, "name": "value"; a value without quotes may contain blanks, so the rest of the line is removed
        (rf"({_NAMES}[\w.-]*['\"]?\s*(?:=>|[:=])\s*)(\"[^\"]*\"|'[^']*'|\S.*)", re.IGNORECASE, rf"\1{MASK}"),
        (rf"((?<![\w-])--?[\w-]{{0,40}}{_NAMES}[\w-]*\s+)\S+", re.IGNORECASE, rf"\1{MASK}"),
        # the omero command: -w PASSWORD, -k SESSION
        (r"(\bomero\b.{0,200}?\s-[wk]\s*)\S+", 0, rf"\1{MASK}"),
        (r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+", 0, MASK),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[\w-]{10,}", 0, MASK),
        (r"\bAKIA[0-9A-Z]{16}\b", 0, MASK),
        # a session's key in OMERO is a UUID, and so is a run's id: its first part names a run, and opens no session
        (r"(?<![0-9a-f])([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])", re.I, r"\1-****"),
    )
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")


def is_secret_name(name: str) -> bool:
    """Whether a variable or a key of this name holds a secret."""
    return _SECRET_NAME.search(name) is not None and name not in _FOLDERS


class Redactor:
    """Removes the given values, and text that looks like a secret."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {form for value in values for form in _forms_of(value)}
        longest_first = sorted(found, key=lambda value: (-len(value), value))
        self._values = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """``text`` without secrets; the number of lines does not change."""
        if self._values:
            text = self._values.sub(MASK, text)
        lines, in_key = [], False
        for line in text.split("\n"):
            if in_key:
                in_key = not _KEY_END.search(line)
                lines.append(MASK)
            elif begin := _KEY_BEGIN.search(line):
                in_key = not _KEY_END.search(line)
                lines.append(f"{_redacted(line[: begin.start()])}{begin[0]} {MASK}")
            else:
                lines.append(_redacted(line))
        return "\n".join(lines)


def _forms_of(value: str) -> Iterable[str]:
    """The forms of a value in a text: unchanged, in a URL, in JSON."""
    value = value.strip()
    if len(value) >= MIN_VALUE_CHARACTERS and set(value) != {"*"}:
        yield from (value, quote(value, safe=""), json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])


def _redacted(line: str) -> str:
    line = mask_credentials(line)
    for pattern, replacement in _FORMS:
        line = pattern.sub(replacement, line)
    return _BASE64.sub(lambda match: MASK if _is_random(match[0]) else match[0], line)


def _is_random(text: str) -> bool:
    """Whether a base64 string is random data. A path has more slashes, a hexadecimal digest has no capitals."""
    kinds = (str.islower, str.isupper, str.isdigit)
    return all(any(map(kind, text)) for kind in kinds) and text.count("/") <= max(4, len(text) // 16)
