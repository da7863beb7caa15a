"""The states of a run and their transitions. Pure: no event, no database."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from biomeroworker.domain.job_status import JobState
from biomeroworker.errors import BiomeroWorkerError, Conflict


class LogError(BiomeroWorkerError):
    """Nothing was recorded."""


class NoSuchRun(LogError):
    """There is no run (or task) of this id."""


class NotAllowed(LogError, Conflict):
    """The run's state does not allow this event."""


class AlreadyEnded(NotAllowed):
    """The run has its terminal event. It ends exactly once."""


class StaleAttempt(NotAllowed):
    """The event belongs to an attempt that was replaced: its sender must stop working on the run."""


class RunState(enum.StrEnum):
    """Where a run is, in the order in which it passes through. *Paused* is a flag on top of a state."""

    ACCEPTED = "accepted"  #: the whole request is committed; nothing has been done yet
    EXPORTING = "exporting"  #: its source writes the inputs as OME-Zarr on this machine
    TRANSFERRING = "transferring"  #: inputs and the attempt's files are sent to the cluster
    SUBMITTING = "submitting"  #: the attempt's job is, or may have been, submitted
    QUEUED = "queued"  #: the scheduler has the job and has not started it
    RUNNING = "running"  #: the job runs, or has ended and its end is not recorded yet
    FETCHING = "fetching"  #: markers and results are fetched and checked
    IMPORTING = "importing"  #: its source imports the results
    DONE = "done"  #: succeeded: the results are imported
    FAILED = "failed"  #: failed: the report has the stage, the cause and the next step
    CANCELLED = "cancelled"  #: ended by a cancel request, and its job is cancelled

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return self in TERMINAL

    @property
    def order(self) -> int:
        """Its position in this list."""
        return _ORDER[self]


TERMINAL = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})
_ORDER = {state: number for number, state in enumerate(RunState)}

_S = RunState

#: The states that may follow each state, besides itself (a repeated step) and the terminal states.
#: Transitions back are for things that were lost: exported files, files on the cluster, a node.
TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    _S.ACCEPTED: frozenset({_S.EXPORTING}),
    _S.EXPORTING: frozenset({_S.TRANSFERRING}),
    _S.TRANSFERRING: frozenset({_S.EXPORTING, _S.SUBMITTING}),
    _S.SUBMITTING: frozenset({_S.EXPORTING, _S.TRANSFERRING, _S.QUEUED, _S.RUNNING, _S.FETCHING}),
    _S.QUEUED: frozenset({_S.TRANSFERRING, _S.RUNNING, _S.FETCHING}),
    _S.RUNNING: frozenset({_S.TRANSFERRING, _S.QUEUED, _S.FETCHING}),
    _S.FETCHING: frozenset({_S.TRANSFERRING, _S.IMPORTING}),
    _S.IMPORTING: frozenset({_S.FETCHING}),
    _S.DONE: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


def check_transition(now: RunState, then: RunState) -> None:
    """Raise `NotAllowed` unless a run may go from ``now`` to ``then``; every run that has not ended may end."""
    if now.is_terminal:
        raise AlreadyEnded(f"the run is {now} already")
    if then.is_terminal or then is now or then in TRANSITIONS[now]:
        return
    raise NotAllowed(f"a run that is {now} cannot become {then}")


def after_observation(now: RunState, job_state: str) -> RunState:
    """The state of a run after its job was seen in ``job_state``, the name of a `JobState`.

    Only PENDING and RUNNING change it, and only while the run waits for the job. What the end of a job means is decided
    by the engine, from the markers of the job.
    """
    if now in (RunState.SUBMITTING, RunState.QUEUED, RunState.RUNNING):
        if job_state == JobState.RUNNING.name:
            return RunState.RUNNING
        if job_state == JobState.PENDING.name:
            return RunState.QUEUED
    return now
