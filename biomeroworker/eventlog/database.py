"""Database engines whose waits are bounded, and which survive a killed process and a restarted server."""

from __future__ import annotations

import itertools
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import ConfigError
from biomeroworker.eventlog.tables import BINARY_IDS, EVENTS

#: Seconds that a writer of a SQLite file waits for another one.
BUSY_SECONDS = 30

#: Limits of a session of PostgreSQL: waiting for a lock, one statement, idle inside a transaction.
LIMITS = {"lock_timeout": "10s", "statement_timeout": "60s", "idle_in_transaction_session_timeout": "30s"}
#: The same for transactions that read all events.
LONG_LIMITS = {"lock_timeout": "5min", "statement_timeout": "1h", "idle_in_transaction_session_timeout": "10min"}


def connect(url: str) -> Engine:
    """Make an engine for ``postgresql+psycopg2://…`` or ``sqlite:///file``, without connecting.

    Error messages contain neither the parameters of statements nor the password in the URL.

    Raises
    ------
    ConfigError
        The URL is invalid, or names another database system.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError("the database URL is invalid; its form is postgresql+psycopg2://user@host/name") from None
    match parsed.get_backend_name():
        case "postgres" | "postgresql":
            if "+" not in parsed.drivername:
                parsed = parsed.set(drivername="postgresql+psycopg2")
            return create_engine(
                parsed,
                pool_pre_ping=True,  # detects a server that was restarted, before a statement fails
                hide_parameters=True,
                connect_args=_bounded(parsed),
            )
        case "sqlite":
            return _sqlite(parsed)
        case other:
            raise ConfigError(f"the event log needs PostgreSQL or SQLite, not {other!r}")


def _bounded(url: URL) -> dict[str, Any]:
    """Connection options that bound each wait: for a server that vanished, and for a lock that is not released."""
    options = [f"-c {name}={value}" for name, value in LIMITS.items()]
    extra = url.query.get("options", ())  # those of the URL come last, so they override
    return {
        "connect_timeout": 10,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20000,
        "application_name": "biomeroworker",
        "options": " ".join([*options, *([extra] if isinstance(extra, str) else extra)]),
    }


def allow_long(connection: Connection) -> None:
    """Set the limits of this transaction to those for reading all events."""
    if connection.dialect.name == "postgresql":
        for name, value in LONG_LIMITS.items():
            connection.exec_driver_sql(f"SET LOCAL {name} = '{value}'")


def insert_into(table: Table, connection: Connection) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can have ``ON CONFLICT``, which each dialect has in a class of its own."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        path = Path(url.database).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = url.set(database=str(path))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the listener below begins transactions, not the driver
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
    """Switch a new file to write-ahead logging, so that readers do not wait for the writer.

    ``busy_timeout`` does not apply to this switch, so it is retried while another process opens the same new file.
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
