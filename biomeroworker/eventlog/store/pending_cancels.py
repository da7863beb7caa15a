"""Jobs that are still to be cancelled on a cluster that was away when their run was.

A cancelled run ends at once; its job may live on where nobody can reach it. What is owed is written down before the
run's end is, and crossed out when the scheduler has said that the job is gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import PENDING_CANCELS


@dataclass(frozen=True)
class PendingCancel:
    """A job that is to be cancelled; ``since`` is when its run was accepted."""

    name: str
    run_id: UUID
    since: datetime


class PendingCancels:
    """The cancels that are owed. Any supervisor may deliver any of them, twice if need be."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def add(self, run_id: UUID, names: Iterable[str], since: datetime) -> None:
        """Write down that the jobs of these names are to be cancelled."""
        when = since.astimezone(UTC).replace(tzinfo=None)
        rows = [{"name": name, "run_id": run_id, "since": when} for name in names]
        if not rows:
            return
        with self._recorder.writing() as connection:
            insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
            connection.execute(insert(PENDING_CANCELS).on_conflict_do_nothing(index_elements=["name"]), rows)

    def all(self) -> list[PendingCancel]:
        """All that is owed, oldest first."""
        with self._recorder.engine.connect() as connection:
            rows = connection.execute(select(PENDING_CANCELS).order_by(PENDING_CANCELS.c.since, PENDING_CANCELS.c.name))
            return [PendingCancel(row.name, row.run_id, row.since.replace(tzinfo=UTC)) for row in rows]

    def remove(self, names: Iterable[str]) -> None:
        """Cross out what was delivered."""
        done = list(names)
        if done:
            with self._recorder.writing() as connection:
                connection.execute(delete(PENDING_CANCELS).where(PENDING_CANCELS.c.name.in_(done)))
