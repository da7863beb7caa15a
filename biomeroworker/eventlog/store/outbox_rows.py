"""The outbox rows of terminal events: inserted by the recorder in the transaction that records the end of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from eventsourcing.persistence import StoredEvent
from sqlalchemy import Connection, Insert

from biomeroworker.eventlog.database import insert_into
from biomeroworker.eventlog.tables import OUTBOX

#: The channels. A row is recorded for each; the dispatcher knows which of them are configured.
EMAIL, WEBHOOK = "email", "webhook"

#: The stored topics of terminal events; a cancelled run has that of a failed run.
_ENDS = ("WorkflowRun.WorkflowCompleted", "WorkflowRun.WorkflowFailed")


def post(connection: Connection, events: Sequence[StoredEvent]) -> list[Insert]:
    """Statements that insert a row for each channel and each terminal event among the events.

    The caller executes them in the transaction that records the events.
    """
    ended = [event.originator_id for event in events if event.topic.endswith(_ENDS)]
    if not ended:
        return []
    rows = [
        {
            "run_id": run_id, "channel": channel, "recorded": time.time(), "due": 0.0, "tries": 0, "holder": "",
            "until": 0.0, "outcome": "",
        }
        for run_id in ended
        for channel in (EMAIL, WEBHOOK)
    ]  # fmt: skip
    # another program may record a second end of a run; it causes no second notification
    return [insert_into(OUTBOX, connection).values(rows).on_conflict_do_nothing()]
