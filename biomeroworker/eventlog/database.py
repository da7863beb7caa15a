"""The database behind a URL, set up so that a killed process or a restarted server costs nothing."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import ConfigError
from biomeroworker.eventlog.tables import BINARY_IDS, EVENTS

#: How long one writer of a SQLite file waits for another.
BUSY_SECONDS = 30

#: How long a session of PostgreSQL waits for a lock, for a statement, and is idle within a transaction.
LIMITS = {"lock_timeout": "10s", "statement_timeout": "60s", "idle_in_transaction_session_timeout": "30s"}
#: The same where all events are read again.
LONG_LIMITS = {"lock_timeout": "5min", "statement_timeout": "1h", "idle_in_transaction_session_timeout": "10min"}


def connect(url: str) -> Engine:
    """An engine for ``postgresql+psycopg2://…`` or ``sqlite:///file``; nothing is connected yet.

    Statements in error messages come without their parameters, and the URL's password is shown nowhere.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "the database's URL cannot be read; it is like postgresql+psycopg2://user@host/name"
        ) from None
    match parsed.get_backend_name():
        case "postgres" | "postgresql":
            if "+" not in parsed.drivername:
                parsed = parsed.set(drivername="postgresql+psycopg2")
            return create_engine(
                parsed,
                pool_pre_ping=True,  # a server that was restarted meanwhile is noticed before a statement is lost
                hide_parameters=True,
                connect_args=_bounded(parsed),
            )
        case "sqlite":
            return _sqlite(parsed)
        case other:
            raise ConfigError(f"the log can be kept in PostgreSQL or SQLite, not in {other!r}")


def _bounded(url: URL) -> dict[str, Any]:
    """Nothing waits without end: not for a server that vanished, nor for a lock that somebody else forgot."""
    options = [f"-c {name}={value}" for name, value in LIMITS.items()]
    asked = url.query.get("options", ())  # the URL's own come last, and win
    return {
        "connect_timeout": 10,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20000,
        "application_name": "biomeroworker",
        "options": " ".join([*options, *([asked] if isinstance(asked, str) else asked)]),
    }


def allow_long(connection: Connection) -> None:
    """Let this transaction take the time that all events need."""
    if connection.dialect.name == "postgresql":
        for name, value in LONG_LIMITS.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = '{value}'")


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        path = Path(url.database).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = url.set(database=str(path))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guesses
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        setattr(engine.dialect, BINARY_IDS, _has_binary_ids(cursor))
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info.get("writes") else "BEGIN")

    return engine


def _has_binary_ids(cursor: Any) -> bool:
    """Whether biomero 2.8 made the events table: its ids are BINARY(16)."""
    cursor.execute("SELECT type FROM pragma_table_info(?) WHERE name = 'originator_id'", (EVENTS.name,))
    found = cursor.fetchone()
    return found is not None and "BINARY" in str(found[0]).upper()


def _write_ahead(cursor: Any) -> None:
    """Switch a new file to a write-ahead log: readers do not wait for the writer.

    The switch does not wait as other statements do when several processes open a new file at once.
    """
    end = time.monotonic() + BUSY_SECONDS
    for attempt in itertools.count(1):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY or time.monotonic() > end:
                raise
            time.sleep(backoff_delay(attempt, first=0.01, longest=0.2, jitter=0.5))
