"""What this process holds of a run between two steps. The log has all that matters: losing it does no harm."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from biomeroworker.engine.steps.guards import CancelToken, LeaseGuard
from biomeroworker.eventlog.aggregates.states import RunState


class Next(enum.Enum):
    """What a run needs after a step."""

    STEP = "step"  #: its next step, after a delay
    POLL = "poll"  #: an answer of the scheduler: `JobMonitor` finds out when the next step is due
    NOTHING = "nothing"  #: it has ended or is paused


@dataclass(frozen=True)
class StepResult:
    """The result of `RunExecutor.advance`."""

    next: Next
    delay: float = 0.0  #: seconds until the next step
    stage: RunState = RunState.ACCEPTED  #: the run's state when the step started
    cluster: str = ""  #: name of the run's cluster in the configuration
    streaming: bool = False  #: its job is submitted and its inputs are still being sent: it has a step, and is polled


AWAIT_POLL = StepResult(Next.POLL)
FINISHED = StepResult(Next.NOTHING)


def next_step(delay: float = 0.0, *, streaming: bool = False) -> StepResult:
    """The next step is due after ``delay`` seconds."""
    return StepResult(Next.STEP, delay, streaming=streaming)


@dataclass(frozen=True)
class PolledJob:
    """The job of a run, and the last answer about it that is in the log."""

    name: str
    job_id: int | None
    since: datetime
    answer: tuple[tuple[object, ...], ...] = ()
    progress: tuple[str | None, ...] = ()


@dataclass
class LeasedRun:
    """A run that this process executes."""

    id: UUID
    lease: LeaseGuard
    cancel: CancelToken
    last: StepResult = StepResult(Next.STEP)
    polled: PolledJob | None = None  #: None: read it from the log before the next poll
    cancel_started: float | None = None  #: ``time.monotonic()`` of the first attempt to cancel its jobs
