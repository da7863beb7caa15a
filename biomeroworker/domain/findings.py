"""The findings of `biomeroworker doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from biomeroworker.errors import classify

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    ``setting`` is the line of the ini file, or the environment variable, to change: ``/etc/x.ini:12: [SLURM] key``.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""
    setting: str = ""

    def for_cluster(self, cluster: str) -> Finding:
        """The same finding with the name of the cluster in front; unchanged for the cluster without a name."""
        return replace(self, subject=f"{cluster}: {self.subject}") if cluster else self


def ok(subject: str, message: str) -> Finding:
    """A finding without a problem."""
    return Finding("ok", subject, message)


def warn(subject: str, message: str, remedy: str = "", setting: str = "") -> Finding:
    """A finding that needs attention: it works, or may work."""
    return Finding("warn", subject, message, remedy, setting)


def fail(subject: str, message: str, remedy: str = "", setting: str = "") -> Finding:
    """A finding that will make runs fail or pause."""
    return Finding("fail", subject, message, remedy, setting)


def fault_of(subject: str, error: BaseException, remedy: str = "", setting: str = "") -> Finding:
    """A finding for an exception, with the last line of its evidence."""
    fault = classify(error)
    evidence = fault.detail.strip().splitlines()
    return fail(subject, f"{fault}: {evidence[-1]}" if evidence else str(fault), fault.hint or remedy, setting)


def check(subject: str, examine: Callable[[], str], remedy: str = "", setting: str = "") -> Finding:
    """Call ``examine``: a finding with the text that it returns, or with the exception that it raises."""
    try:
        return ok(subject, examine())
    except Exception as error:
        return fault_of(subject, error, remedy, setting)
