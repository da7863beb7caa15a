import errno
import socket
import subprocess

import eventsourcing.persistence
import psycopg2.errors
import pytest
import sqlalchemy.exc

from biomeroworker.errors import Blocked, ConfigError, Permanent, RequestRejected, Transient, classify, report
from biomeroworker.eventlog.aggregates.states import AlreadyEnded, NoSuchRun, NotAllowed, StaleAttempt
from biomeroworker.eventlog.store.fence import LeaseLost


def _database(error: Exception) -> sqlalchemy.exc.DBAPIError:
    """An exception of a database driver, wrapped as SQLAlchemy does."""
    return sqlalchemy.exc.DBAPIError.instance("select", {}, error, psycopg2.Error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Transient("as it is"), Transient),
        (TimeoutError("slow"), Transient),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Transient),
        (OSError(errno.ENOSPC, "No space left on device"), Blocked),
        (PermissionError(errno.EACCES, "denied"), Blocked),
        (FileNotFoundError(errno.ENOENT, "gone"), Permanent),
        (sqlalchemy.exc.OperationalError("select", {}, Exception("server closed")), Transient),
        (_database(psycopg2.errors.QueryCanceled("statement timeout")), Transient),
        (_database(psycopg2.errors.LockNotAvailable("lock timeout")), Transient),
        (_database(psycopg2.errors.DeadlockDetected("deadlock")), Transient),
        (_database(psycopg2.errors.IdleInTransactionSessionTimeout("idle")), Transient),
        (_database(psycopg2.InterfaceError("closed")), Transient),
        (_database(psycopg2.errors.UniqueViolation("twice")), Permanent),
        (_database(psycopg2.errors.NumericValueOutOfRange("too big")), Permanent),
        (_database(psycopg2.errors.UndefinedTable("no table")), Permanent),
        (_database(psycopg2.NotSupportedError("not here")), Permanent),
        (sqlalchemy.exc.TimeoutError("QueuePool limit"), Transient),
        (sqlalchemy.exc.InvalidRequestError("a defect"), Permanent),
        (eventsourcing.persistence.IntegrityError("changed meanwhile"), Transient),
        (OSError(errno.EMFILE, "Too many open files"), Transient),
        (OSError(errno.ENFILE, "Too many open files in system"), Transient),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Transient),
        (OSError(errno.ESTALE, "Stale file handle"), Transient),
        (OSError(errno.EBUSY, "Device or resource busy"), Transient),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Transient),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Permanent),
        (OSError(errno.EIO, "Input/output error"), Blocked),
        (subprocess.TimeoutExpired(["ssh", "-G"], 20), Transient),
        (NotAllowed("a run that is done cannot become running"), Transient),
        (AlreadyEnded("done"), Transient),
        (StaleAttempt("attempt 1"), Transient),
        (LeaseLost("another supervisor's"), Transient),
        (NoSuchRun("no run"), Permanent),
        (RequestRejected("no such dataset"), Permanent),
        (ConfigError("a.ini, line 3"), Permanent),
        (ZeroDivisionError("a defect"), Permanent),
    ],
)
def test_every_error_has_one_class(error, kind):
    assert type(classify(error)) is kind


def test_a_report_has_stage_class_message_evidence_and_next_step():
    fault = Permanent("the container ended with 3", hint="read its log", detail="ValueError: empty image")
    described = str(report(fault, "running", "abc"))
    for part in ("running", "permanent", "ended with 3", "ValueError: empty image", "read its log", "retry abc"):
        assert part in described


def test_the_report_of_a_paused_run_has_the_resume_command():
    assert "biomeroworker resume abc" in report(Blocked("disk full"), "transferring", "abc").next_step


@pytest.mark.parametrize("fault", [Transient("link down"), Blocked("disk full"), Permanent("exit 3")])
@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("retry", "will be retried automatically"),
        ("paused", "biomeroworker resume abc"),
        ("ended", "biomeroworker retry abc"),
    ],
)
def test_the_next_step_depends_on_the_outcome_and_not_on_the_class(fault, outcome, words):
    described = report(fault, "transferring", "abc", outcome=outcome)
    assert words in described.next_step
    assert described.kind == type(fault).__name__.lower()


def test_without_an_outcome_the_next_step_depends_on_the_class():
    assert "will be retried automatically" in report(Transient("link down"), "transferring", "abc").next_step
    assert "biomeroworker retry abc" in report(Permanent("exit 3"), "running", "abc").next_step


def test_the_message_of_a_timeout_omits_the_command_line():
    fault = classify(subprocess.TimeoutExpired(["ssh", "-o", "x" * 500], 20))
    assert str(fault) == "ssh did not end within 20 s"


def test_an_io_error_is_not_reported_as_a_full_disk():
    assert "space" not in classify(OSError(errno.EIO, "Input/output error")).hint
