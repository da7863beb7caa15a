"""Read ini files in the format of biomero, with the line of each value.

Keys are converted to lower case. ``=`` or ``:`` separates key and value, except between double quotes. A line that
starts with ``#`` or ``;`` is a comment. An indented line continues the value before it. ``%`` has no special meaning,
and a blank value is ignored. Section names are converted to upper case, the name of a cluster after a colon to lower
case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biomeroworker.errors import ConfigError

_SECTION = re.compile(r"\[(?P<name>[^]]+)\]\s*(?:[;#].*)?$")
_OPTION = re.compile(r"""(?P<key>(?:"[^"]*"|[^=:])+?)\s*(?:[=:]\s*(?P<value>.*))?$""")

#: Sections whose keys are case-sensitive, because they contain names of users and groups.
CASE_SENSITIVE = "ACCOUNTS"


@dataclass(frozen=True)
class Value:
    """A value and its origin: ``file:line`` or ``environment NAME``."""

    section: str
    key: str
    text: str
    origin: str


def read(path: Path) -> Iterator[Value]:
    """Yield the values of a file that are not blank.

    Raises
    ------
    ConfigError
        The file cannot be read, a line has a wrong format, or a key occurs twice in a section.
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
        if option is None or stripped.startswith("["):
            raise ConfigError(f"{path}:{number}: write [SECTION] or key = value, not {stripped.partition('=')[0]!r}")
        if not section:
            name = option["key"]
            raise ConfigError(f"{path}:{number}: a setting before the first [SECTION]: {name!r}")
        known = (section, option["key"] if section.startswith(CASE_SENSITIVE) else option["key"].lower())
        if known in found:
            first = found[known][0]
            raise ConfigError(f"{path}:{number}: [{section}] {known[1]} is already set in line {first}: remove one")
        current = [option["value"] or ""]
        found[known] = (number, current)
    for (name, key), (number, parts) in found.items():
        text = "\n".join(parts).strip()
        if text:
            yield Value(name, key, text, f"{path}:{number}")


def _section(name: str) -> str:
    head, colon, tail = name.partition(":")
    return f"{head.strip().upper()}{colon}{tail.strip().lower()}"
