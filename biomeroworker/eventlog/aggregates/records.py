"""Plain values that describe a run, as the log returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from biomeroworker.domain.job_status import JobStatus
from biomeroworker.eventlog.aggregates.states import RunState


class Immutable:
    """An object that never changes is its own copy: runs are copied at each read, and may have many faults."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True)
class Intent(Immutable):
    """What a step is about to do. It is open until its outcome is recorded: after a crash look first, then act."""

    stage: RunState
    attempt: int
    when: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt(Immutable):
    """One try at running the workflow: at most one job, found again by its ``name``.

    The job of a run that is split is an array of ``tasks``, each working on the chunk of its number: all of them in the
    first attempt, afterwards those that were lost.
    """

    number: int
    name: str
    started: datetime
    excluded_nodes: tuple[str, ...] = ()
    job_id: int | None = None
    submitted: datetime | None = None
    observation: JobStatus | None = None  #: what was last recorded of its job
    observed: datetime | None = None  #: when that was recorded
    unknown_since: datetime | None = None  #: since when the scheduler does not know the job
    tasks: tuple[int, ...] = ()
    preloaded: frozenset[int] = frozenset()  #: chunks that were on the cluster when the attempt's files arrived there
    released: frozenset[int] = frozenset()  #: chunks on the cluster whose tasks were released
    verdicts: Mapping[str, Any] = field(default_factory=dict)  #: the outcomes of its tasks

    @property
    def is_held(self) -> bool:
        """Whether its job is submitted before all of its chunks are sent: its tasks are released one by one."""
        return bool(self.tasks) and not self.preloaded.issuperset(self.tasks)

    @property
    def unreleased(self) -> tuple[int, ...]:
        """The tasks that wait for their chunk or for their release."""
        return tuple(task for task in self.tasks if task not in self.released) if self.is_held else ()

    @property
    def last_known(self) -> datetime:
        """Until when the scheduler knew the job: now, unless its last answer was that it does not know it.

        Equal answers are recorded once, so the age of the last one is no measure; the first UNKNOWN is recorded.
        """
        return self.unknown_since or datetime.now(UTC)


@dataclass(frozen=True)
class FaultRecord(Immutable):
    """A fault of a run, and when its step is tried again (None: not automatically)."""

    stage: RunState
    attempt: int
    kind: str
    message: str
    detail: str
    hint: str
    retry_at: datetime | None
    when: datetime


@dataclass(frozen=True)
class RunSummary:
    """One line of a list of runs, read from the read table alone.

    ``managed``: the run was accepted here; other programs only record their runs.
    """

    id: UUID
    name: str
    workflow: str
    state: RunState
    paused: bool
    pause_reason: str
    cancel_requested: bool
    user: int
    group: int
    attempt: int
    job_id: int | None
    started: datetime
    modified: datetime
    ended: datetime | None
    message: str
    managed: bool


@dataclass(frozen=True)
class LoggedEvent:
    """One event of the log. ``name`` is the last part of the topic (``StageIntended``, ``TaskStarted``)."""

    number: int
    time: datetime
    name: str
    attributes: Mapping[str, Any]
    subject: UUID
    aggregate: str  #: ``WorkflowRun`` or ``Task``
