"""The section about the event log: numbers of runs, paused runs with reasons, and the last events. Read-only."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from biomeroworker.diagnostics.commands import NotAvailable
from biomeroworker.diagnostics.sections import Context, File, Notes
from biomeroworker.eventlog.database import connect
from biomeroworker.eventlog.mapper import class_topic
from biomeroworker.eventlog.tables import EVENTS, LEASES, OUTBOX, TRACKING, VIEWS

#: Maximum number of rows per file.
_ROWS = 100
#: Time limit of a statement; PostgreSQL only.
_STATEMENT_SECONDS = 10


def run_log(context: Context, notes: Notes) -> Iterator[File]:
    """The state of the runs, and the latest events."""
    if context.settings is None:
        raise NotAvailable("the configuration is invalid, so the database is not known")
    url = context.settings.database_url
    path = make_url(url).database or ""
    if url.startswith("sqlite") and path not in ("", ":memory:") and not Path(path).exists():
        raise NotAvailable(f"{context.settings.database_shown} does not exist yet: the first run creates it")
    engine = connect(url)
    try:
        with engine.connect() as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
            yield from _read(connection, notes)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise NotAvailable(f"{context.settings.database_shown}: {reason}") from None
    finally:
        engine.dispose()


def _read(connection: Connection, notes: Notes) -> Iterator[File]:
    tables = set(inspect(connection).get_table_names())
    if EVENTS.name not in tables:
        raise NotAvailable("the database has no table of events: it contains no event log")
    events = EVENTS.c
    last = connection.execute(
        select(events.id, events.originator_id, events.originator_version, events.topic, events.state)
        .order_by(events.id.desc())
        .limit(_ROWS)
    ).all()
    yield (
        "run-log/last-events.txt",
        _table(
            ("event", "of", "version", "topic"),
            ((row.id, row.originator_id, row.originator_version, _topic(row)) for row in last),
        ),
    )
    runs = VIEWS.runs.c
    if VIEWS.runs.name not in tables:
        notes.missing.append("the database has no table of runs: this program has not opened it yet")
        return
    counted = connection.execute(select(runs.state, runs.paused, func.count()).group_by(runs.state, runs.paused)).all()
    by_state = Counter[str]()
    for state, paused, count in counted:
        by_state[f"{state}{' (paused)' if paused else ''}"] += count
    positions = connection.execute(select(TRACKING.c.notification_id, TRACKING.c.version)).all()
    lines = [f"{state}: {count}" for state, count in sorted(by_state.items())]
    lines += [f"read up to event {position} (version {version})" for position, version in positions]
    yield "run-log/counts.txt", "\n".join(lines) + "\n"

    columns = (runs.run_id, runs.workflow, runs.state, runs.attempt, runs.job_id, runs.modified)
    open_runs = connection.execute(
        select(*columns, runs.paused, runs.pause_reason, runs.cancel_requested)
        .where(runs.ended.is_(None))
        .order_by(runs.modified.desc())
        .limit(_ROWS)
    ).all()
    head = ("run", "workflow", "state", "attempt", "job", "changed")
    yield (
        "run-log/open-runs.txt",
        _table(
            (*head, "paused", "cancel requested"), ((*row[:6], row.paused, row.cancel_requested) for row in open_runs)
        ),
    )
    stopped = [row for row in open_runs if row.paused]
    yield "run-log/paused-runs.txt", _table((*head, "reason"), ((*row[:6], row.pause_reason) for row in stopped))
    if stopped:
        notes.findings.append(f"paused runs: {len(stopped)}, see run-log/paused-runs.txt")
    failed = connection.execute(
        select(*columns, runs.message).where(runs.state == "failed").order_by(runs.modified.desc()).limit(_ROWS)
    ).all()
    yield "run-log/failed-runs.txt", _table((*head, "message"), failed)
    if LEASES.name in tables:
        held = connection.execute(
            select(LEASES.c.run_id, LEASES.c.holder, LEASES.c.until).order_by(LEASES.c.until)
        ).all()
        yield "run-log/leases.txt", _table(("run", "holder", "until"), held)
    if OUTBOX.name in tables:
        waiting = connection.execute(
            select(OUTBOX.c.run_id, OUTBOX.c.channel, OUTBOX.c.tries, OUTBOX.c.outcome)
            .where(OUTBOX.c.closed.is_(None))
            .order_by(OUTBOX.c.id)
            .limit(_ROWS)
        ).all()
        yield "run-log/undelivered.txt", _table(("run", "channel", "tries", "last failure"), waiting)


def _topic(row: Any) -> str:
    """The topic of the event's class; the stored topic if the state is not JSON."""
    with contextlib.suppress(ValueError, AttributeError):
        return class_topic(row.topic, json.loads(bytes(row.state)))
    return str(row.topic)


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Tab-separated lines; line breaks in cells become blanks."""
    lines = ["\t".join(head)]
    lines += ["\t".join(" ".join(str(cell).split()) for cell in row) for row in rows]
    return "\n".join(lines) + "\n"
