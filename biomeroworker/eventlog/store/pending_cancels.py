"""Jobs that are still to be cancelled, on clusters that could not be reached when their run was cancelled.

A cancelled run ends immediately, but its job may still exist on a cluster that does not answer. The pending cancel is
recorded before the end of the run, and deleted when the scheduler confirms that the job is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, select

from biomeroworker.eventlog.database import insert_into
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import PENDING_CANCELS


@dataclass(frozen=True)
class PendingCancel:
    """A job that is to be cancelled; ``since`` is when its run was accepted."""

    name: str
    run_id: UUID
    since: datetime


class PendingCancels:
    """The pending cancels. Any supervisor may send any of them, also more than once."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def add(self, run_id: UUID, names: Iterable[str], since: datetime) -> None:
        """Record that the jobs with these names are to be cancelled."""
        when = since.astimezone(UTC).replace(tzinfo=None)
        rows = [{"name": name, "run_id": run_id, "since": when} for name in names]
        if not rows:
            return
        with self._recorder.writing() as connection:
            connection.execute(
                insert_into(PENDING_CANCELS, connection).on_conflict_do_nothing(index_elements=["name"]), rows
            )

    def all(self) -> list[PendingCancel]:
        """All pending cancels, oldest first."""
        with self._recorder.engine.connect() as connection:
            rows = connection.execute(select(PENDING_CANCELS).order_by(PENDING_CANCELS.c.since, PENDING_CANCELS.c.name))
            return [PendingCancel(row.name, row.run_id, row.since.replace(tzinfo=UTC)) for row in rows]

    def remove(self, names: Iterable[str]) -> None:
        """Delete the cancels of these jobs."""
        done = list(names)
        if done:
            with self._recorder.writing() as connection:
                connection.execute(delete(PENDING_CANCELS).where(PENDING_CANCELS.c.name.in_(done)))
