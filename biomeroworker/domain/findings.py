"""What the doctor says: one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from biomeroworker.errors import classify

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    ``setting`` is the line of the ini (or the variable) to change, where one is: ``/etc/x.ini:12: [SLURM] key``.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""
    setting: str = ""

    def for_cluster(self, cluster: str) -> Finding:
        """The same, said of a cluster with a name."""
        return replace(self, subject=f"{cluster}: {self.subject}") if cluster else self


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding("ok", subject, message)


def warn(subject: str, message: str, remedy: str = "", setting: str = "") -> Finding:
    """It works, or may work; look at it."""
    return Finding("warn", subject, message, remedy, setting)


def fail(subject: str, message: str, remedy: str = "", setting: str = "") -> Finding:
    """Runs will fail or be paused."""
    return Finding("fail", subject, message, remedy, setting)


def fault_of(subject: str, error: BaseException, remedy: str = "", setting: str = "") -> Finding:
    """What an exception says, with the last line of its evidence."""
    fault = classify(error)
    evidence = fault.detail.strip().splitlines()
    return fail(subject, f"{fault}: {evidence[-1]}" if evidence else str(fault), fault.hint or remedy, setting)


def check(subject: str, look: Callable[[], str], remedy: str = "", setting: str = "") -> Finding:
    """What a look tells, or why it told nothing."""
    try:
        return ok(subject, look())
    except Exception as error:
        return fault_of(subject, error, remedy, setting)
