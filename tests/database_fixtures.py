"""Databases for the event log: the same tests run with SQLite and with a real PostgreSQL. A pytest plugin."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from biomeroworker.eventlog.runlog import RunLog

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.sandbox)]


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """An empty database on a PostgreSQL server; its URL. It is removed at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
        for patience in (0.2, 1.0, 5.0, None):  # the server's own vacuum may be at it, which FORCE does not end
            try:
                with engine.connect() as connection:
                    connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
                break
            except DBAPIError:
                if patience is None:
                    raise
                time.sleep(patience)
    finally:
        engine.dispose()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database on the session's PostgreSQL."""
    with new_database(postgres) as url:
        yield url


@pytest.fixture(params=KINDS)
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'runs.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def log(log_url: str) -> Iterator[RunLog]:
    """An open, empty log."""
    with RunLog.open(log_url) as opened:
        yield opened
