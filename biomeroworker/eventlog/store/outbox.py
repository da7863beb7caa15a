"""What is still to be told of runs that have ended: written with the end itself, crossed off when it was delivered.

The loss that this module prevents: a run that ends while nobody can be told. A row per way of telling is inserted in
the transaction of the terminal event, so there is no end without it. Whoever delivers claims a row for a while, lets
go of the database, delivers, and closes the row; if it dies in between, the row is somebody else's once the claim has
run out, and is delivered again: at least once, and never by two at the same time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Update, delete, func, select, update

from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import OUTBOX


@dataclass(frozen=True)
class Notice:
    """A row of the outbox that is ours to deliver until the claim runs out."""

    number: int
    run_id: UUID
    channel: str
    recorded: float  #: seconds since 1970
    tries: int  #: how many deliveries have failed before this one


class Outbox:
    """The rows that are not delivered yet. Nothing here waits for anything but the database."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def waiting(self) -> int:
        """How many notices are not delivered."""
        with self._recorder.engine.connect() as connection:
            query = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.closed.is_(None))
            return int(connection.execute(query).scalar_one())

    def claim(self, holder: str, seconds: float, *, without: Collection[str] = ()) -> Notice | None:
        """The notice that is due for longest, claimed for so long; None when none is. Writes nothing then.

        Parameters
        ----------
        without
            Channels that are not to be tried just now.
        """
        row = OUTBOX.c
        due = select(row.id).where(row.closed.is_(None)).order_by(row.due, row.id).limit(1)
        due = due.where(row.channel.not_in(without)) if without else due
        with self._recorder.engine.connect() as connection:  # to look costs no lock
            free = due.where(row.due <= self._recorder.clock, row.until <= self._recorder.clock)
            if connection.execute(free).first() is None:
                return None
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            free = due.where(row.due <= now, row.until <= now).with_for_update(skip_locked=True)
            claimed = (
                update(OUTBOX)
                .where(row.id == free.scalar_subquery())
                .values(holder=holder, until=now + seconds)
                .returning(row.id, row.run_id, row.channel, row.recorded, row.tries)
            )
            found = connection.execute(claimed).first()
            return Notice(*found) if found is not None else None

    def close(self, notice: Notice, holder: str, outcome: str) -> None:
        """The notice is delivered, or never will be."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            connection.execute(self._mine(notice, holder).values(closed=now, until=now, outcome=outcome))

    def postpone(self, notice: Notice, holder: str, seconds: float, problem: str) -> None:
        """The delivery failed; the notice is due again after so long."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            changed = self._mine(notice, holder).values(
                due=now + seconds, until=now, tries=notice.tries + 1, outcome=problem
            )
            connection.execute(changed)

    def purge(self, days: float) -> None:
        """Remove the closed rows of runs that ended longer ago."""
        with self._recorder.writing() as connection:
            before = self._recorder.now(connection) - days * 86400
            connection.execute(delete(OUTBOX).where(OUTBOX.c.closed < before))

    @staticmethod
    def _mine(notice: Notice, holder: str) -> Update:
        """Only while the claim is ours: a process that was stopped for long must not undo what another has done."""
        row = OUTBOX.c
        return update(OUTBOX).where(row.id == notice.number, row.holder == holder, row.closed.is_(None))
