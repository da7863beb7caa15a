"""What can go wrong, classed once, by type (the promise: every failure says what happens next).

A fault's *class* decides what the engine does with a run; nothing else looks at messages to decide. Code that meets a
fault raises the class it means; `classify` gives a class to what libraries raise.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


class BiomeroWorkerError(Exception):
    """Root of all errors of this package."""


class ConfigError(BiomeroWorkerError):
    """A setting is wrong or missing. The message names file, line and key."""


class Refused(BiomeroWorkerError):
    """A request is not accepted: nothing was recorded, nothing runs. The message says what to change."""


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
    errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EAGAIN, errno.EINTR,
}  # fmt: skip
_BLOCKED_ERRNO = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def classify(error: BaseException) -> Fault:
    """The fault that an exception is: itself if it is one, else by its type. The unknown is permanent.

    `OSError` is classed by its errno, a time-out is transient, a database that cannot be reached is transient;
    anything else is a defect or a refusal and will not get better by trying again.
    """
    if isinstance(error, Fault):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ConfigError | Refused):
        return Permanent(str(error))
    if isinstance(error, TimeoutError):
        return Transient(text)
    if isinstance(error, OSError):
        if error.errno in _TRANSIENT_ERRNO:
            return Transient(text)
        if error.errno in _BLOCKED_ERRNO:
            return Blocked(text, hint="free space or give access, then resume the run")
    if type(error).__module__.startswith("sqlalchemy") and type(error).__name__ in {
        "OperationalError",
        "InterfaceError",
    }:
        return Transient(text)
    return Permanent(text)


def report(fault: Fault, stage: str, run: str) -> Report:
    """What to tell the user of a fault that ended or paused a run at ``stage``."""
    match fault:
        case Transient():
            kind, step = "transient", "it is tried again by itself"
        case Blocked():
            kind, step = "blocked", f"after mending it: biomeroworker resume {run}"
        case _:
            kind, step = "permanent", f"after mending it: biomeroworker retry {run}"
    return Report(stage, kind, str(fault), fault.detail, f"{fault.hint}; {step}" if fault.hint else step)
