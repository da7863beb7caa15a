"""The fields with which a user chooses one of the own runs, or names a run by its ID.

The list comes from the event log. If the log does not answer in time, the dialog opens without the list.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import omero.clients
import omero.scripts
from omero.rtypes import rstring

from biomeroworker.config import Settings
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.records import RunSummary
from biomeroworker.eventlog.runlog import RunLog

RUN = "Run"
RUN_ID = "Run_ID"
#: Runs in the list of a dialog.
CHOICES = 50
#: Runs that are read to fill the list.
RUNS_READ = 500
#: Seconds that a dialog waits for the event log.
LOG_SECONDS = 3.0
#: A run is in the list for this time after it is no longer a choice: OMERO refuses a value that has left the list,
#: and this refusal names no reason.
GRACE = timedelta(hours=1)


def is_cancellable(run: RunSummary, now: datetime) -> bool:
    """Whether a run has not ended, or has just ended."""
    return run.managed and (run.ended is None or now - run.ended < GRACE)


def is_resumable(run: RunSummary, now: datetime) -> bool:
    """Whether a run is paused, or was changed a moment ago."""
    return run.managed and (run.paused or now - run.modified < GRACE)


def is_repeatable(run: RunSummary, now: datetime) -> bool:
    """Whether a run has ended."""
    return run.managed and run.ended is not None


def label(run: RunSummary) -> str:
    """A run in the list: the start of its ID, its workflow, and when it was accepted. Never changes."""
    return f"{str(run.id)[:8]} {run.name}, {run.started:%Y-%m-%d %H:%M} UTC"


def labels(runs: Iterable[RunSummary], wanted: Callable[[RunSummary, datetime], bool], now: datetime) -> list[str]:
    """The list for a dialog, newest first."""
    return [label(run) for run in runs if wanted(run, now)][:CHOICES]


def own_labels(user: int, wanted: Callable[[RunSummary, datetime], bool]) -> list[str]:
    """The list of a user's runs, from the event log; empty if the log cannot be read within `LOG_SECONDS`."""
    found: list[str] = []

    def read() -> None:
        try:
            with RunLog.open(Settings.load().database_url) as log:
                found.extend(labels(log.runs(user=user, limit=RUNS_READ), wanted, datetime.now(UTC)))
        except Exception as error:
            print(f"the list of runs is empty, because the event log cannot be read: {type(error).__name__}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(LOG_SECONDS)
    return [] if thread.is_alive() else found


def fields(choices: Sequence[str], purpose: str) -> list[Any]:
    """The two fields; ``purpose`` completes the sentence "The run to …"."""
    values: dict[str, Any] = {"values": [rstring(choice) for choice in choices]} if choices else {}
    described = f"The run to {purpose}: your runs, newest first."
    return [
        omero.scripts.String(
            RUN,
            optional=True,
            grouping="01",
            description=described if choices else f"The run to {purpose}. You have none to choose; give an ID below.",
            **values,
        ),
        omero.scripts.String(
            RUN_ID,
            optional=True,
            grouping="02",
            description="Or the ID of a run, or its first characters. The messages of a run show its ID. "
            "Administrators may name the run of any user.",
        ),
    ]


def chosen(inputs: Mapping[str, Any]) -> str:
    """The ID of the chosen run, or its start.

    Raises
    ------
    RequestRejected
        No run is chosen, or two different runs.
    """
    listed = str(inputs.get(RUN) or "").split(" ")[0].strip().lower()
    typed = str(inputs.get(RUN_ID) or "").strip().lower()
    if listed and typed and not (typed.startswith(listed) or listed.startswith(typed)):
        raise RequestRejected(f"two runs are given, {listed} and {typed}: clear {RUN!r} or {RUN_ID!r}")
    if not listed and not typed:
        raise RequestRejected(f"no run is chosen: select one in {RUN!r}, or write its ID into {RUN_ID!r}")
    return max(listed, typed, key=len)
