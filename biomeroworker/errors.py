"""The classes of errors, and the report of an error to the user.

The class of a `Fault` decides what the engine does with a run; no code decides by the text of a message. Code that
detects a fault raises the right class; `classify` converts the exceptions of libraries.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from dataclasses import dataclass
from typing import Literal


class BiomeroWorkerError(Exception):
    """Root of all errors of this package."""


class ConfigError(BiomeroWorkerError):
    """A setting is wrong or missing. The message names the file, the line and the key."""


class RequestRejected(BiomeroWorkerError):
    """A request is not accepted: nothing is recorded and nothing runs. The message names what to change."""


class Conflict(BiomeroWorkerError):
    """Another process has changed the state, so this change is no longer valid. Read the state again."""


class Fault(BiomeroWorkerError):
    """A step of a run failed.

    Parameters
    ----------
    message
        What failed, and where (path, host, job).
    hint
        What the reader can do; empty if waiting is enough.
    detail
        Evidence: the last lines of stderr, SLURM's state and reason. Never a secret.
    """

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.detail = detail


class Transient(Fault):
    """A temporary fault: retried with backoff."""


class Blocked(Fault):
    """A person must fix the cause. The run is paused; ``biomeroworker resume`` continues it with the same step."""


class Permanent(Fault):
    """A retry would fail in the same way: the run fails."""


class NodeFault(Transient):
    """A fault of one compute node (mount missing, image unreadable, disk full): retried with that node excluded."""

    def __init__(self, message: str, *, node: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.node = node


@dataclass(frozen=True)
class Report:
    """The complete description of a fault for the user."""

    stage: str
    kind: str
    message: str
    detail: str
    next_step: str

    def __str__(self) -> str:
        lines = [f"{self.stage}: {self.message} ({self.kind})"]
        if self.detail:
            lines.append(self.detail)
        lines.append(f"Next: {self.next_step}")
        return "\n".join(lines)


_TRANSIENT_ERRNO = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN, errno.EAGAIN, errno.EINTR, socket.EAI_AGAIN,
    # temporary states of the worker host or of a file server
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EBUSY,
}  # fmt: skip
_BLOCKED_ERRNO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free disk space; [WORKER] work_folder needs most of it"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give the account of the worker access"),
    errno.EIO: "the storage reports a read or write error: check the disk or the file server",
}

#: Exceptions of database drivers for a statement that is wrong. Others are faults of the connection or the server.
_WRONG_STATEMENT = {"IntegrityError", "DataError", "ProgrammingError", "NotSupportedError"}


def classify(error: BaseException) -> Fault:
    """Convert an exception to a `Fault`, by its type. A `Fault` is returned as it is; an unknown type is permanent.

    `OSError` is classified by its errno. These are transient: a timeout; a database that cannot be reached, is slow, or
    has closed the connection; a `Conflict`. A statement that the database rejects is permanent.
    """
    if isinstance(error, Fault):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Conflict):
        return Transient(str(error))
    if isinstance(error, ConfigError | RequestRejected):
        return Permanent(str(error))
    if isinstance(error, subprocess.TimeoutExpired):  # its own text contains the whole command line
        command = error.cmd if isinstance(error.cmd, str) else str(next(iter(error.cmd), ""))
        return Transient(f"{command.split(' ')[0]} did not end within {error.timeout:g} s")
    if isinstance(error, TimeoutError):
        return Transient(text)
    if isinstance(error, OSError):
        if error.errno in _TRANSIENT_ERRNO:
            return Transient(text)
        if error.errno in _BLOCKED_ERRNO:
            where = f": {error.filename}" if error.filename else ""
            return Blocked(f"worker host: {os.strerror(error.errno).lower()}{where}", hint=_BLOCKED_ERRNO[error.errno])
    if _is_transient_database_error(error):
        return Transient(text)
    return Permanent(text)


def _is_transient_database_error(error: BaseException) -> bool:
    """Compares the names of types, so that this module does not import the libraries of the database."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if ("eventsourcing", "IntegrityError") in kinds:  # another process recorded first at each attempt
        return True
    names = {name for package, name in kinds if package == "sqlalchemy"}
    if "DBAPIError" in names:
        return not names & _WRONG_STATEMENT
    return "TimeoutError" in names  # the connection pool had no free connection


def report(fault: Fault, stage: str, run: str, *, outcome: Literal["retry", "paused", "ended"] | None = None) -> Report:
    """Describe a fault of ``stage`` to the user.

    Parameters
    ----------
    outcome
        What the engine did with the run; it determines the next step. Default: what the class of the fault leads to
        before the retry budget is used up.
    """
    match fault:
        case Transient():
            kind, usual = "transient", "retry"
        case Blocked():
            kind, usual = "blocked", "paused"
        case _:
            kind, usual = "permanent", "ended"
    match outcome or usual:
        case "retry":
            step = "will be retried automatically"
        case "paused":
            step = f"fix the cause, then run: biomeroworker resume {run}"
        case _:
            step = f"fix the cause, then run: biomeroworker retry {run}"
    return Report(stage, kind, str(fault), fault.detail, f"{fault.hint}; {step}" if fault.hint else step)
