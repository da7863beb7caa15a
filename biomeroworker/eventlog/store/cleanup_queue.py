"""The queue of ended runs whose folder on the cluster is to be removed, shared by all supervisors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, update

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.database import insert_into
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import CLEANUP, VIEWS

#: Seconds before the next attempt to remove a folder: an hour, doubling to a week.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 3600.0, 7 * 86400.0


class CleanupQueue:
    """Claims runs for the removal of their folders, and records the results."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def claim(self, older_than: timedelta, limit: int, seconds: float) -> list[UUID]:
        """Claim runs that ended longer ago and whose folder may still exist, oldest first, at most ``limit``.

        No other supervisor gets them for ``seconds``. Runs of other programs are left out: they have no such folder.
        """
        runs, queue = VIEWS.runs.c, CLEANUP.c
        before = datetime.now(UTC).replace(tzinfo=None) - older_than
        with self._recorder.engine.connect() as connection:
            now = self._recorder.now(connection)
            query = (
                select(runs.run_id)
                .outerjoin(CLEANUP, queue.run_id == runs.run_id)
                .where(runs.ended < before, runs.carried)
                .where(or_(queue.run_id.is_(None), queue.swept.is_(None) & (queue.due <= now)))
                .order_by(runs.ended)
                .limit(limit)
            )
            candidates = list(connection.execute(query).scalars())
        if not candidates:
            return []
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            rows = [{"run_id": one, "due": now + seconds, "tries": 0, "problem": ""} for one in candidates]
            statement = insert_into(CLEANUP, connection).values(rows)
            statement = statement.on_conflict_do_update(
                index_elements=[queue.run_id],
                set_={"due": statement.excluded.due},
                where=queue.swept.is_(None) & (queue.due <= now),
            )
            claimed = set(connection.execute(statement.returning(queue.run_id)).scalars())
        return [one for one in candidates if one in claimed]

    def record_result(self, removed: Collection[UUID], problems: Mapping[UUID, str]) -> None:
        """Record which folders were removed, and why others could not be removed (by run)."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            if removed:
                done = update(CLEANUP).where(CLEANUP.c.run_id.in_(removed)).values(swept=now, problem="")
                connection.execute(done)
            for run_id, problem in problems.items():
                tries = connection.execute(select(CLEANUP.c.tries).where(CLEANUP.c.run_id == run_id)).scalar_one()
                delay = backoff_delay(tries + 1, first=FIRST_DELAY_SECONDS, longest=LONGEST_DELAY_SECONDS)
                later = update(CLEANUP).where(CLEANUP.c.run_id == run_id)
                connection.execute(later.values(due=now + delay, tries=tries + 1, problem=problem))

    def record_preserved(self, run_id: UUID) -> None:
        """Record that the folder of a claimed run must not be removed, so that the run is not claimed again."""
        with self._recorder.writing() as connection:
            preserved = update(CLEANUP).where(CLEANUP.c.run_id == run_id)
            connection.execute(
                preserved.values(swept=self._recorder.now(connection), problem="preserved, as requested")
            )

    def end_states(self, run_ids: Iterable[UUID]) -> dict[UUID, tuple[RunState, datetime | None]]:
        """State and end time (None: not ended) of those of the runs that are in the event log."""
        runs = VIEWS.runs.c
        query = select(runs.run_id, runs.state, runs.ended).where(runs.run_id.in_(list(run_ids)))
        with self._recorder.engine.connect() as connection:
            return {
                row.run_id: (RunState(row.state), row.ended.replace(tzinfo=UTC) if row.ended else None)
                for row in connection.execute(query)
            }
