"""Shared by the commands: common options, finding a run by the start of its ID, and output."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from biomeroworker.deployment.run_actions import RUNS_SEARCHED, matching
from biomeroworker.eventlog.runlog import RunLog

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BIOMERO_CONFIG",
        help="An ini file that is read after the standard files.",
        exists=True,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[str, typer.Argument(help="The ID of a run, or the start of it.", metavar="RUN")]

#: In a file or a pipe, lines are not wrapped; a terminal has its own width.
out = Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 250)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

#: Control characters that a terminal interprets; line feed and tab are allowed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """A text from a container, a cluster or a user, without characters that control the terminal."""
    return _CONTROL.sub("\ufffd", text)


def find_run(log: RunLog, given: str) -> UUID:
    """The ID of the only run whose ID starts with ``given``. Raises `RequestRejected` for none or several."""
    try:
        return UUID(given)
    except ValueError:
        pass
    return matching(log.runs(limit=RUNS_SEARCHED), given, "list the runs with: biomeroworker runs")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, default=_plain, indent=1, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return str(value)


def ago(when: datetime, now: datetime) -> str:
    """The time since ``when``, short enough for a table."""
    passed = now - when
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if passed >= unit:
            return f"{passed // unit} {name} ago"
    return f"{passed.seconds} s ago"


def size(count: float) -> str:
    """A number of bytes with a unit, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
