"""Read ini files as old deployments wrote them, remembering where each value stands.

Keys are lower-cased, ``=`` or ``:`` parts key and value (but not between double quotes), a line that starts with
``#`` or ``;`` is a comment, an indented line continues the value before it. A ``%`` is just a character, and a blank
value is no value. Sections are upper-case words; what follows a colon in one, the name of a cluster, is lower-cased.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biomeroworker.errors import ConfigError

_SECTION = re.compile(r"\[(?P<name>[^]]+)\]\s*$")
_OPTION = re.compile(r"""(?P<key>(?:"[^"]*"|[^=:])+?)\s*(?:[=:]\s*(?P<value>.*))?$""")

#: The sections in which keys are names of users and groups, whose capitals matter.
NAMES_AS_KEYS = "ACCOUNTS"


@dataclass(frozen=True)
class Value:
    """A value as it was written, and where: ``file:line``, or ``environment NAME``."""

    section: str
    key: str
    text: str
    origin: str


def read(path: Path) -> Iterator[Value]:
    """The values of a file that are not blank.

    Raises
    ------
    ConfigError
        The file cannot be read, a line is neither section nor option, or a key stands twice in a section.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    section, found = "", dict[tuple[str, str], tuple[int, list[str]]]()
    current: list[str] | None = None
    indent = 0
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        depth = len(line) - len(line.lstrip())
        if current is not None and depth > indent:
            current.append(stripped)
            continue
        indent, current = depth, None
        if match := _SECTION.match(stripped):
            section = _section(match["name"])
            continue
        option = _OPTION.match(stripped)
        if option is None or not section:
            what = "an option before the first [SECTION]" if option else "neither a [SECTION] nor an option"
            raise ConfigError(f"{path}:{number}: {what}: {stripped.partition('=')[0]!r}")
        known = (section, option["key"] if section.startswith(NAMES_AS_KEYS) else option["key"].lower())
        if known in found:
            raise ConfigError(f"{path}:{number}: [{section}] {known[1]} stands in line {found[known][0]} already")
        current = [option["value"] or ""]
        found[known] = (number, current)
    for (name, key), (number, parts) in found.items():
        text = "\n".join(parts).strip()
        if text:
            yield Value(name, key, text, f"{path}:{number}")


def _section(name: str) -> str:
    head, colon, tail = name.partition(":")
    return f"{head.strip().upper()}{colon}{tail.strip().lower()}"
