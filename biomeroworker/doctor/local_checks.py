"""Checks that need no cluster: the database, the work folder, OMERO."""

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

#: Less free space on the disk of the work folder is reported: exports may not fit.
_MIN_FREE_BYTES = 5e9
#: A database that takes longer to open the log and list the unfinished runs is reported as slow.
_SLOW_SECONDS = 5.0


def database(settings: Settings) -> Iterator[Finding]:
    """Whether the database can be reached, has a log of this program, and answers in time. Creates no tables."""
    line = settings.line("ANALYTICS", "sqlalchemy_url")
    started = time.monotonic()
    try:
        state = _state(settings.database_url)
        unfinished = None
        if state is _State.CURRENT:
            with RunLog.open(settings.database_url) as log:
                unfinished = len(log.unfinished())
        seconds = time.monotonic() - started
    except Exception as error:
        fault = classify(error)
        lines = str(error).strip().splitlines()
        message = f"{settings.database_shown}: {lines[0] if lines else fault}"
        yield fail("database", message, fault.hint or "check that the database server runs", line)
        return
    message = (
        f"{settings.database_shown}: {state.value if unfinished is None else f'{unfinished} unfinished runs'}, "
        f"answered in {seconds * 1000:.0f} ms"
    )
    if settings.database_url.startswith("sqlite"):
        message += "; SQLite supports one supervisor on one machine"
    else:
        message += f"; time limit of a statement {LIMITS['statement_timeout']}"
    if seconds > _SLOW_SECONDS:
        yield warn("database", f"{message}: slow", "use a database closer to this machine", line)
    else:
        yield ok("database", message)


class _State(enum.Enum):
    """What a database contains; the values are texts for the finding."""

    EMPTY = "empty, the tables are created at first use"
    BIOMERO = "a log of biomero, whose read tables are rebuilt at first use"
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
    except OSError as error:  # a folder above it cannot be entered
        message = f"{folder} cannot be examined ({error.strerror})"
        return fail("work folder", message, "choose another folder, or give the account access", line)
    if not above.is_dir() or not os.access(above, os.W_OK):
        message = f"{folder} is not writable"
        return fail("work folder", message, "choose another folder, or give the account access", line)
    free_bytes = shutil.disk_usage(above).free
    message = f"{folder}, {free_bytes / 1e9:.0f} GB free"
    if free_bytes <= _MIN_FREE_BYTES:
        return warn("work folder", message, "free some space, or choose another folder", line)
    return ok("work folder", message)


def omero(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Check OMERO with the supervisor's login; without a configured login there is nothing to check."""
    if not any(environ.get(name) for name in ("OMERO_HOST", "OMERO_PASSWORD", "OMERO_LOCATOR", "ICE_CONFIG")):
        yield ok("omero", "not configured (OMERO_HOST is not set): only runs from folders are possible")
        return
    try:
        from biomeroworker.omero.checks import examine
    except ModuleNotFoundError as error:
        yield fail("omero", f"{error.name} is missing", "pip install 'biomeroworker[omero]'")
        return
    yield from examine(environ)
