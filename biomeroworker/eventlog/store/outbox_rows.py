"""The outbox rows of terminal events: inserted by the recorder in the transaction that records the end of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from eventsourcing.persistence import StoredEvent
from sqlalchemy import Connection, Insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from biomeroworker.eventlog.tables import OUTBOX

#: The ways of telling. Which of them lead anywhere is known where the row is delivered, not where a run ends.
EMAIL, WEBHOOK = "email", "webhook"

_ENDS = tuple(f"WorkflowRun.{name}" for name in ("WorkflowCompleted", "WorkflowFailed", "RunCancelled"))


def post(connection: Connection, events: Sequence[StoredEvent]) -> list[Insert]:
    """What writes, for each terminal event among these, a row per way of telling: to be executed in the transaction
    that records them.
    """
    ended = [event.originator_id for event in events if event.topic.endswith(_ENDS)]
    if not ended:
        return []
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    rows = [
        {
            "run_id": run_id, "channel": channel, "recorded": time.time(), "due": 0.0, "tries": 0, "holder": "",
            "until": 0.0, "outcome": "",
        }
        for run_id in ended
        for channel in (EMAIL, WEBHOOK)
    ]  # fmt: skip
    # another program may record a second end of a run; it is told once all the same
    return [insert(OUTBOX).values(rows).on_conflict_do_nothing()]
