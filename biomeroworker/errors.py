"""What can go wrong, classed once, by type (the promise: every failure says what happens next).

A fault's *class* decides what the engine does with a run; nothing else looks at messages to decide. Code that meets a
fault raises the class it means; `classify` gives a class to what libraries raise.
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
    """A setting is wrong or missing. The message names file, line and key."""


class RequestRejected(BiomeroWorkerError):
    """A request is not accepted: nothing was recorded, nothing runs. The message says what to change."""


class Conflict(BiomeroWorkerError):
    """Somebody else was faster: what was to be done fits no longer. Nothing is wrong; look anew."""


class Fault(BiomeroWorkerError):
    """Something failed while a run was carried.

    Parameters
    ----------
    message
        What failed, for the person who reads it at night: names the thing, and where.
    hint
        What to do about it; empty when there is nothing to do but wait.
    detail
        Evidence: the last lines of stderr, SLURM's state and reason. Never a secret.
    """

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.detail = detail


class Transient(Fault):
    """Goes away by itself: retried with backoff."""


class Blocked(Fault):
    """Needs a person: the run is paused, visibly, and goes on from the same step after ``biomeroworker resume``."""


class Permanent(Fault):
    """Will fail the same way again: the run fails now."""


class NodeFault(Transient):
    """A fault of one compute node (mount missing, image unreadable, disk full): retried with that node excluded."""

    def __init__(self, message: str, *, node: str, hint: str = "", detail: str = "") -> None:
        super().__init__(message, hint=hint, detail=detail)
        self.node = node


@dataclass(frozen=True)
class Report:
    """What a user is told of a fault: always all of it."""

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
    # this machine's, or a file server's, bad moment
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EBUSY,
}  # fmt: skip
_BLOCKED_ERRNO = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "free space on it; most of what a run needs is in [WORKER] work_folder"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give the worker's account access"),
    errno.EIO: "the storage reports a broken read or write: have it looked at",
}

#: Of what a database's driver raises, that which says that the statement itself is wrong.
_WRONG_STATEMENT = {"IntegrityError", "DataError", "ProgrammingError", "NotSupportedError"}


def classify(error: BaseException) -> Fault:
    """The fault that an exception is: itself if it is one, else by its type. The unknown is permanent.

    `OSError` is classed by its errno. A time-out is transient, and so is a database that cannot be reached, is slow, or
    ended the session; a statement that it does not accept is not. Whoever was overtaken has only to look anew.
    Anything else is a defect or a refusal and will not get better by trying again.
    """
    if isinstance(error, Fault):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, Conflict):
        return Transient(str(error))
    if isinstance(error, ConfigError | RequestRejected):
        return Permanent(str(error))
    if isinstance(error, subprocess.TimeoutExpired):  # its own text would tell the whole command line
        command = error.cmd if isinstance(error.cmd, str) else str(next(iter(error.cmd), ""))
        return Transient(f"{command.split(' ')[0]} did not end within {error.timeout:g} s")
    if isinstance(error, TimeoutError):
        return Transient(text)
    if isinstance(error, OSError):
        if error.errno in _TRANSIENT_ERRNO:
            return Transient(text)
        if error.errno in _BLOCKED_ERRNO:
            where = f": {error.filename}" if error.filename else ""
            return Blocked(
                f"this machine says {os.strerror(error.errno).lower()}{where}", hint=_BLOCKED_ERRNO[error.errno]
            )
    if _is_passing_in_a_database(error):
        return Transient(text)
    return Permanent(text)


def _is_passing_in_a_database(error: BaseException) -> bool:
    """By the names of its types, so that those who need no database need not load one."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
    if ("eventsourcing", "IntegrityError") in kinds:  # another process recorded first, again and again
        return True
    names = {name for package, name in kinds if package == "sqlalchemy"}
    if "DBAPIError" in names:
        return not names & _WRONG_STATEMENT
    return "TimeoutError" in names  # no connection became free in the pool


def report(fault: Fault, stage: str, run: str, *, outcome: Literal["retry", "paused", "ended"] | None = None) -> Report:
    """What to tell the user of a fault that was met at ``stage``.

    Parameters
    ----------
    outcome
        What came of it for the run, which decides what is to be done next; by default what a fault of this class
        leads to as long as nobody has lost patience.
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
            step = "it is tried again by itself"
        case "paused":
            step = f"after mending it: biomeroworker resume {run}"
        case _:
            step = f"after mending it: biomeroworker retry {run}"
    return Report(stage, kind, str(fault), fault.detail, f"{fault.hint}; {step}" if fault.hint else step)
