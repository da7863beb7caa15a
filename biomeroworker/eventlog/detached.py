"""Detached runs that biomero 2.9 queued for its own supervisor, and that have not ended.

No supervisor of this program executes them: their steps are those of another program. They are listed, so that their
users can start them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select

from biomeroworker.domain.constants import RUN_WF_BATCHED_SCRIPT, RUN_WF_SCRIPT
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.tables import VIEWS

#: The parameter that marks the task of such a run; the other parameters are the inputs of the script.
MARKER = "_biomero_detached_launcher"
_CLAIMED = "CLAIMED"


@dataclass(frozen=True)
class DetachedRun:
    """A run that waits. ``claimed``: a supervisor of biomero has taken it, and may still execute it."""

    id: UUID
    workflows: tuple[str, ...]
    user: int
    group: int
    accepted: datetime
    claimed: bool

    def __str__(self) -> str:
        taken = "; a supervisor of biomero has taken it" if self.claimed else ""
        return f"{self.id} ({', '.join(self.workflows)}) of user {self.user}, {self.accepted:%Y-%m-%d %H:%M}{taken}"


def waiting_runs(log: RunLog) -> list[DetachedRun]:
    """The runs that wait, oldest first."""
    tasks, runs = VIEWS.tasks.c, VIEWS.runs.c
    query = (
        select(tasks.task_id, runs.run_id, runs.user, runs.group, runs.started)
        .join(VIEWS.runs, runs.run_id == tasks.run_id)
        .where(tasks.name.in_([RUN_WF_SCRIPT, RUN_WF_BATCHED_SCRIPT]), runs.ended.is_(None), runs.carried.is_(False))
        .order_by(runs.started)
    )
    found = []
    with log.engine.connect() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        task = log.tracker.task(row.task_id)
        if MARKER in (task.params or {}):
            names = tuple(map(str, task.params.get("workflows") or ()))
            accepted = row.started.replace(tzinfo=UTC)
            found.append(DetachedRun(row.run_id, names, row.user, row.group, accepted, task.status == _CLAIMED))
    return found
