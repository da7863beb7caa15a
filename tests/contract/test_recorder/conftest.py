"""Databases for the log: the same tests run over SQLite and over a real PostgreSQL."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from biomeroworker.eventlog.runlog import RunLog


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty database on the session's PostgreSQL."""
    name = f"log_{uuid.uuid4().hex[:12]}"
    server = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    for patience in (0.2, 1.0, 5.0, None):  # the server's own vacuum may be at it, which FORCE does not end
        try:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            break
        except DBAPIError:
            if patience is None:
                raise
            time.sleep(patience)
    server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.sandbox)])
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
