"""Which ended runs still have a folder on the cluster, and whose removal was tried, so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import CLEANUP, VIEWS

#: A folder that could not be removed is tried again after an hour, doubling to a week.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 3600.0, 7 * 86400.0


class CleanupQueue:
    """Questions about ended runs, and the notes of whoever removes their folders."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self._recorder = recorder

    def claim(self, older_than: timedelta, limit: int, seconds: float) -> list[UUID]:
        """At most so many runs that ended longer ago and whose folder may still be there, oldest first.

        For ``seconds`` nobody else is given them. Only runs that were accepted here: others have no folder of ours.
        """
        runs, swept = VIEWS.runs.c, CLEANUP.c
        before = datetime.now(UTC).replace(tzinfo=None) - older_than
        with self._recorder.engine.connect() as connection:
            now = self._recorder.now(connection)
            query = (
                select(runs.run_id)
                .outerjoin(CLEANUP, swept.run_id == runs.run_id)
                .where(runs.ended < before, runs.carried)
                .where(or_(swept.run_id.is_(None), swept.swept.is_(None) & (swept.due <= now)))
                .order_by(runs.ended)
                .limit(limit)
            )
            candidates = list(connection.execute(query).scalars())
        if not candidates:
            return []
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
            rows = [{"run_id": one, "due": now + seconds, "tries": 0, "problem": ""} for one in candidates]
            statement = insert(CLEANUP).values(rows)
            statement = statement.on_conflict_do_update(
                index_elements=[swept.run_id],
                set_={"due": statement.excluded.due},
                where=swept.swept.is_(None) & (swept.due <= now),
            )
            claimed = set(connection.execute(statement.returning(swept.run_id)).scalars())
        return [one for one in candidates if one in claimed]

    def record_result(self, removed: Collection[UUID], problems: Mapping[UUID, str]) -> None:
        """These folders are gone; those could not be removed, and why."""
        with self._recorder.writing() as connection:
            now = self._recorder.now(connection)
            if removed:
                done = update(CLEANUP).where(CLEANUP.c.run_id.in_(removed)).values(swept=now, problem="")
                connection.execute(done)
            for run_id, problem in problems.items():
                tries = connection.execute(select(CLEANUP.c.tries).where(CLEANUP.c.run_id == run_id)).scalar_one()
                delay = backoff_delay(tries + 1, first=FIRST_DELAY_SECONDS, longest=LONGEST_DELAY_SECONDS)
                again = update(CLEANUP).where(CLEANUP.c.run_id == run_id)
                connection.execute(again.values(due=now + delay, tries=tries + 1, problem=problem))

    def end_states(self, run_ids: Iterable[UUID]) -> dict[UUID, tuple[RunState, datetime | None]]:
        """Of these runs those that the log knows: their state, and when they ended (None: not yet)."""
        runs = VIEWS.runs.c
        query = select(runs.run_id, runs.state, runs.ended).where(runs.run_id.in_(list(run_ids)))
        with self._recorder.engine.connect() as connection:
            return {
                row.run_id: (RunState(row.state), row.ended.replace(tzinfo=UTC) if row.ended else None)
                for row in connection.execute(query)
            }
