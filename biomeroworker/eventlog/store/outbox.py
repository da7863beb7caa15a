"""Notifications about ended runs: recorded with the end of the run, closed after delivery.

This prevents that a notification is lost because its server does not answer. The transaction of the terminal event
inserts a row for each channel, so no run ends without them. A dispatcher claims a row for a limited time, closes its
connection to the database, delivers, and closes the row. If it dies in between, another dispatcher claims the row when
the claim has expired. So a notification is delivered at least once, and never by two dispatchers at the same time.
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
    """A row of the outbox that the caller may deliver until its claim expires."""

    number: int
    run_id: UUID
    channel: str
    recorded: float  #: seconds since 1970
    tries: int  #: number of failed deliveries


class Outbox:
    """The notifications that are not delivered yet. The methods use the database only."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def waiting(self) -> int:
        """The number of notifications that are not delivered."""
        with self._recorder.engine.connect() as connection:
            query = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.closed.is_(None))
            return int(connection.execute(query).scalar_one())

    def claim(self, holder: str, seconds: float, *, without: Collection[str] = ()) -> Notice | None:
        """Claim the notification that is due first, for so many seconds; None, without writing, if none is due.

        Parameters
        ----------
        without
            Channels to leave out.
        """
        row = OUTBOX.c
        due = select(row.id).where(row.closed.is_(None)).order_by(row.due, row.id).limit(1)
        due = due.where(row.channel.not_in(without)) if without else due
        with self._recorder.engine.connect() as connection:  # needs no lock
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
        """Close the notification: it is delivered, or no further attempt is made."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            connection.execute(self._mine(notice, holder).values(closed=now, until=now, outcome=outcome))

    def postpone(self, notice: Notice, holder: str, seconds: float, problem: str) -> None:
        """Record a failed delivery; the notification is due again after so many seconds."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            changed = self._mine(notice, holder).values(
                due=now + seconds, until=now, tries=notice.tries + 1, outcome=problem
            )
            connection.execute(changed)

    def purge(self, days: float) -> None:
        """Delete rows that were closed more than ``days`` ago."""
        with self._recorder.writing() as connection:
            before = self._recorder.now(connection) - days * 86400
            connection.execute(delete(OUTBOX).where(OUTBOX.c.closed < before))

    @staticmethod
    def _mine(notice: Notice, holder: str) -> Update:
        """Update the row only if ``holder`` has the claim: a suspended process must not overwrite a later result."""
        row = OUTBOX.c
        return update(OUTBOX).where(row.id == notice.number, row.holder == holder, row.closed.is_(None))
