"""When a fault is met: try again and when, or wait for a person, or end. Pure decisions; the carrier acts on them.

Backoff starts at 20 s and doubles to 15 min. A transient fault that outlives its budget pauses the run instead of
losing it: nobody's work is thrown away because a front-end was down over the weekend.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import Blocked, Fault, NodeFault, Permanent, Transient
from biomeroworker.eventlog.aggregates.run import WorkflowRun


@dataclass(frozen=True)
class Retry:
    """Try the same step again after ``delay`` seconds."""

    delay: float


@dataclass(frozen=True)
class Pause:
    """Keep everything as it is until a person resumes the run."""


@dataclass(frozen=True)
class End:
    """The run fails now."""


Decision = Retry | Pause | End


def decide(
    fault: Fault, *, failures: int, since: datetime, now: datetime, budget: timedelta, before_admission: bool
) -> Decision:
    """What to do about a fault.

    Parameters
    ----------
    failures
        How many times in a row this step has failed, this one included.
    since
        When it failed first, in a row.
    budget
        For how long a transient fault is retried before the run is paused.
    before_admission
        Nothing has been done for this run yet, so a cluster or database that cannot be reached ends it at once: the
        user is still there and can simply try later.
    """
    match fault:
        case Permanent():
            return End()
        case Blocked():
            return End() if before_admission else Pause()
        case Transient():
            if before_admission:
                return End() if failures > 2 else Retry(2.0)
            return Pause() if now - since > budget else Retry(backoff_delay(failures))
        case _:
            return End()


def kind(fault: Fault) -> str:
    """The name of a fault's class, whichever of its kinds it is."""
    return next(one.__name__.lower() for one in (NodeFault, Transient, Blocked, Fault) if isinstance(fault, one))


def consecutive_losses(run: WorkflowRun) -> int:
    """How many attempts before this one were lost to their nodes, since a person last had to look."""
    lost = 0
    for met in reversed(run.faults):
        if met.kind == "blocked":
            break
        lost += met.kind == "nodefault"
    return lost
