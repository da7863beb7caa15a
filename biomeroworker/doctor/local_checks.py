"""What this machine and its neighbours are asked: the database, the work folder, OMERO."""

from __future__ import annotations

import enum
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.engine import make_url

from biomeroworker.config import Settings
from biomeroworker.domain.findings import Finding, fail, ok, warn
from biomeroworker.errors import classify
from biomeroworker.eventlog.database import LIMITS, connect
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store import schema
from biomeroworker.eventlog.tables import EVENTS, TRACKING

#: Of the work folder's disk, in bytes: less holds no export.
_MIN_FREE_BYTES = 5e9
#: Seconds to open the log and read what is unfinished.
_SLOW_SECONDS = 5.0


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the log can be reached, is one of ours, and answers soon. Nothing is made in it."""
    line = settings.line("ANALYTICS", "sqlalchemy_url")
    begun = time.monotonic()
    try:
        state = _state(settings.database_url)
        waiting = None
        if state is _State.CURRENT:
            with RunLog.open(settings.database_url) as log:
                waiting = len(log.unfinished())
        took = time.monotonic() - begun
    except Exception as error:
        fault = classify(error)
        said = str(error).strip().splitlines()
        yield fail(
            "database", f"{settings.database_shown}: {said[0] if said else fault}", fault.hint or "is it up?", line
        )
        return
    told = f"{settings.database_shown}: {state.value if waiting is None else f'{waiting} unfinished runs'}"
    told += f", answered in {took * 1000:.0f} ms"
    if settings.database_url.startswith("sqlite"):
        told += "; SQLite serves one supervisor on one machine"
    else:
        told += f"; no statement takes longer than {LIMITS['statement_timeout']}"
    if took > _SLOW_SECONDS:
        yield warn("database", f"{told}: slow", "a database nearer by", line)
    else:
        yield ok("database", told)


class _State(enum.Enum):
    """What is in a database, as words for the finding."""

    EMPTY = "empty, the tables are made at first use"
    BIOMERO = "a log of biomero, whose read tables are made again at first use"
    OTHER = "an event log of an earlier version, which is migrated at first use"
    CURRENT = "a log of this version"


def _state(url: str) -> _State:
    path = make_url(url).database or ""
    if url.startswith("sqlite") and path not in ("", ":memory:") and not Path(path).exists():
        return _State.EMPTY
    engine = connect(url)
    try:
        with engine.connect() as connection:
            tables = inspect(connection)
            if not tables.has_table(EVENTS.name):
                return _State.EMPTY
            if not tables.has_table(TRACKING.name):
                return _State.BIOMERO
            return _State.CURRENT if schema.read(connection).is_current else _State.OTHER
    finally:
        engine.dispose()


def work_folder(settings: Settings) -> Finding:
    """Whether exports fit on this machine."""
    folder, line = settings.worker.work_folder, settings.line("WORKER", "work_folder")
    above = folder
    try:
        while not above.exists():
            above = above.parent
    except OSError as error:  # above it is a folder that this account may not enter
        told = f"{folder} cannot be looked at ({error.strerror})"
        return fail("work folder", told, "another folder, or access to it", line)
    if not above.is_dir() or not os.access(above, os.W_OK):
        return fail("work folder", f"{folder} cannot be written to", "another folder, or access to it", line)
    free = shutil.disk_usage(above).free
    told = f"{folder}, {free / 1e9:.0f} GB free"
    return (
        ok("work folder", told)
        if free > _MIN_FREE_BYTES
        else warn("work folder", told, "free space, or another folder", line)
    )


def omero(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """What OMERO says to the login that the supervisor has; nothing is asked where none is configured."""
    if not any(environ.get(name) for name in ("OMERO_HOST", "OMERO_PASSWORD", "OMERO_LOCATOR", "ICE_CONFIG")):
        yield ok("omero", "none is configured (OMERO_HOST is not set): only folders are served")
        return
    try:
        from biomeroworker.omero.checks import examine
    except ModuleNotFoundError as error:
        yield fail("omero", f"{error.name} is missing", "pip install 'biomeroworker[omero]'")
        return
    yield from examine(environ)
