"""Leases: which supervisor works on a run, and until when by the database's clock."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import delete, literal, select, update

from biomeroworker.eventlog.database import insert_into
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import LEASES, VIEWS


class Leases:
    """The leases of all supervisors. Each method is one short transaction."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def acquire(self, holder: str, seconds: float, *, only: UUID | None = None) -> set[UUID]:
        """Lease all runs that are to be executed and have no valid lease; returns those that this call has leased.

        One statement for any number of runs. Without free runs it writes nothing.
        """
        runs = VIEWS.runs.c
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            held = select(LEASES.c.run_id).where(LEASES.c.until > now)
            free = select(runs.run_id, literal(holder), literal(now + seconds)).where(
                runs.ended.is_(None), runs.carried, runs.paused.is_(False), runs.run_id.not_in(held)
            )
            if only is not None:
                free = free.where(runs.run_id == only)
            statement = insert_into(LEASES, connection).from_select(["run_id", "holder", "until"], free)
            statement = statement.on_conflict_do_update(
                index_elements=[LEASES.c.run_id],
                set_={"holder": statement.excluded.holder, "until": statement.excluded.until},
                where=LEASES.c.until <= now,
            )
            return set(connection.execute(statement.returning(LEASES.c.run_id)).scalars())

    def renew(self, holder: str, seconds: float) -> set[UUID]:
        """Extend all leases of ``holder``; returns the runs that it still has."""
        with self._recorder.writing() as connection:
            until = self._recorder.now(connection) + seconds
            statement = update(LEASES).where(LEASES.c.holder == holder).values(until=until)
            return set(connection.execute(statement.returning(LEASES.c.run_id)).scalars())

    def release(self, run_id: UUID, holder: str) -> None:
        """Release a lease, if ``holder`` still has it."""
        with self._recorder.writing() as connection:
            connection.execute(delete(LEASES).where(LEASES.c.run_id == run_id, LEASES.c.holder == holder))

    def release_all(self, holder: str, *, keep: Iterable[UUID] = (), seconds: float = 0.0) -> None:
        """Release all leases of ``holder``; those of the runs in ``keep`` expire in so many seconds."""
        excepted, ours = list(keep), LEASES.c.holder == holder
        with self._recorder.writing() as connection:
            connection.execute(delete(LEASES).where(ours, LEASES.c.run_id.not_in(excepted)))
            if excepted:
                until = self._recorder.now(connection) + seconds
                connection.execute(update(LEASES).where(ours, LEASES.c.until > until).values(until=until))
