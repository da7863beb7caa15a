"""Decide what follows a fault: retry the step and when, wait for a person, or end the run. Pure.

A transient fault that lasts longer than its retry budget pauses the run. It does not end the run: no work is lost
because a front-end was down over the weekend.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from biomeroworker.engine.timing import Timing
from biomeroworker.errors import Blocked, Fault, NodeFault, Permanent, Transient
from biomeroworker.eventlog.aggregates.run import WorkflowRun

#: How often a step is tried before admission, and the seconds between the tries: the user is waiting.
TRIES_BEFORE_ADMISSION, DELAY_BEFORE_ADMISSION_SECONDS = 3, 2.0


@dataclass(frozen=True)
class Retry:
    """Try the same step again after ``delay`` seconds."""

    delay: float


@dataclass(frozen=True)
class Pause:
    """Change nothing until a person resumes the run."""


@dataclass(frozen=True)
class End:
    """The run fails now."""


Decision = Retry | Pause | End


def decide(
    fault: Fault,
    *,
    failures: int,
    since: datetime,
    now: datetime,
    budget: timedelta,
    before_admission: bool,
    timing: Timing,
) -> Decision:
    """Decide what to do about a fault.

    Parameters
    ----------
    failures
        How many times in a row this step has failed, including this one.
    since
        Time of the first of these failures.
    budget
        How long a transient fault is retried before the run is paused.
    before_admission
        Nothing was done for this run yet. A cluster or database that cannot be reached ends it within seconds: the
        user is still there and can try again later.
    """
    match fault:
        case Permanent():
            return End()
        case Blocked():
            return End() if before_admission else Pause()
        case Transient():
            if before_admission:
                return End() if failures >= TRIES_BEFORE_ADMISSION else Retry(DELAY_BEFORE_ADMISSION_SECONDS)
            return Pause() if now - since > budget else Retry(timing.retry_delay(failures))
        case _:
            return End()


def kind(fault: Fault) -> str:
    """The name of the most specific class of a fault that is recorded."""
    return next(one.__name__.lower() for one in (NodeFault, Transient, Blocked, Fault) if isinstance(fault, one))


def consecutive_losses(run: WorkflowRun) -> int:
    """How many attempts were lost to their nodes since the run was last blocked, or since it started."""
    lost = 0
    for met in reversed(run.faults):
        if met.kind == "blocked":
            break
        lost += met.kind == "nodefault"
    return lost
