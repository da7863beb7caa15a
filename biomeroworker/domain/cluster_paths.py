"""Paths on a cluster, as the ini names them. No shell expands them. Pure."""

from __future__ import annotations

import re

_HOME = re.compile(r"\A(?:~|\$HOME|\$\{HOME\})(?:/+|\Z)")
_RELATIVE_BIND = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._/@+-]*")
_BIND = re.compile(r"/[^:\n\r\0,]*(?::/[^:\n\r\0,]*(?::(?:ro|rw))?)?")


def strip_home(path: str) -> str:
    """A path without ``~/`` or ``$HOME/`` at its start: absolute, or relative to the home folder of the SSH account."""
    return _HOME.sub("", path) or "."


def home_problem(path: str) -> str:
    """What only a shell could expand in a path, as a sentence; empty if there is nothing."""
    rest = strip_home(path)
    return "in a path on the cluster, only ~/ and $HOME/ are expanded" if "$" in rest or rest.startswith("~") else ""


def container_problem(path: str) -> str:
    """Why a container cannot be given a folder, as a sentence; empty if it can.

    In a bind option colon and comma are separators and cannot be escaped.
    """
    return "a path with a colon or a comma cannot be given to a container" if ":" in path or "," in path else ""


def bind_problem(text: str) -> str:
    """Why a text is no bind (an absolute folder with an optional target and mode, or a folder below home); or empty."""
    if _BIND.fullmatch(text) or _RELATIVE_BIND.fullmatch(strip_home(text)):
        return ""
    return f"{text!r} is not /folder, /source:/target or /source:/target:ro"


def split_binds(text: str) -> list[str]:
    """The binds of a list that is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def is_below_home(bind: str) -> bool:
    """Whether a bind is a folder below the home folder of the SSH account."""
    return not bind.startswith("/")
