"""Steps of a run for tests of the event log: bring a run to a state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import select

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.tables import VIEWS

REQUEST: dict[str, Any] = {
    "workflow": "nuclei",
    "version": "v1.0.0",
    "source": "omero",
    "inputs": {"type": "Dataset", "ids": [7]},
    "parameters": {"diameter": 12.5, "export_csv": True, "label": None},
}


def accept(log: RunLog, **changes: Any) -> UUID:
    """A run that was just accepted."""
    return log.accept(REQUEST | changes, name="Nuclei of dataset 7", description="a test", user=4, group=3)


def walk(log: RunLog, run: UUID, job_id: int = 101) -> Iterator[RunState]:
    """Advance an accepted run step by step; yields the state after each step."""
    log.intend(run, RunState.EXPORTING, version="v1.0.0")
    yield RunState.EXPORTING
    log.complete(run, RunState.EXPORTING, images=2)
    log.begin_attempt(run, 1, f"biomero-{run}-1")
    yield RunState.TRANSFERRING
    log.complete(run, RunState.TRANSFERRING, attempt=1, bytes=10)
    log.intend(run, RunState.SUBMITTING, attempt=1, name=f"biomero-{run}-1")
    yield RunState.SUBMITTING
    log.submitted(run, 1, job_id)
    yield RunState.QUEUED
    see(log, run, "PENDING", reason="Priority")
    yield RunState.QUEUED
    see(log, run, "RUNNING", node="node-1", progress="43")
    yield RunState.RUNNING
    see(log, run, "COMPLETED", node="node-1", progress="100")
    yield RunState.RUNNING
    log.intend(run, RunState.FETCHING, attempt=1, state="COMPLETED")
    yield RunState.FETCHING
    log.complete(run, RunState.FETCHING, attempt=1, files=3)
    log.intend(run, RunState.IMPORTING, attempt=1)
    yield RunState.IMPORTING
    log.complete(run, RunState.IMPORTING, attempt=1, made=["Image:9"])
    log.finish(run, made={"Image": 1})
    yield RunState.DONE


def bring_to(log: RunLog, run: UUID, state: RunState, job_id: int = 101) -> None:
    """Advance an accepted run until it is in ``state`` for the first time."""
    if state is RunState.ACCEPTED:
        return
    for reached in walk(log, run, job_id):
        if reached is state:
            return


def see(
    log: RunLog, run: UUID, state: str, *, attempt: int = 1, reason: str = "", node: str = "",
    progress: str | None = None,
) -> bool:  # fmt: skip
    """Record that the scheduler reports ``state``."""
    status = JobStatus("", -1, JobState[state], state, reason=reason, node=node, progress=progress)
    return log.observe(run, attempt, status)


def newest(log: RunLog) -> int:
    """The number of the newest event."""
    return log.tracker.recorder.max_notification_id() or 0


def rows(log: RunLog) -> dict[str, list[dict[str, Any]]]:
    """All read tables, in the order of their keys."""
    found = {}
    with log._engine.connect() as connection:
        for table in VIEWS.all():
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [dict(row) for row in connection.execute(query).mappings()]
    return found
