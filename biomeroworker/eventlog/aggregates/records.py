"""What the log tells about a run, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

from biomeroworker.domain.job_status import JobStatus
from biomeroworker.eventlog.aggregates.states import RunState


class Immutable:
    """What never changes is its own copy: a run is copied each time it is asked for, and may have met many faults."""

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True)
class Intent(Immutable):
    """Something that was begun. Without its outcome it is open: after a crash look first, then act."""

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
    unknown_since: datetime | None = None  #: since when the scheduler says it does not know the job
    tasks: tuple[int, ...] = ()
    preloaded: frozenset[int] = frozenset()  #: chunks that were on the cluster when its files were
    released: frozenset[int] = frozenset()  #: chunks on the cluster whose tasks were let go
    verdicts: Mapping[str, Any] = field(default_factory=dict)  #: of its tasks, when they were judged

    @property
    def is_held(self) -> bool:
        """Whether its job was submitted before all of its chunks had arrived: its tasks are let go one by one."""
        return bool(self.tasks) and not self.preloaded.issuperset(self.tasks)

    @property
    def unreleased(self) -> tuple[int, ...]:
        """The tasks that still wait for their chunk, or to be let go."""
        return tuple(task for task in self.tasks if task not in self.released) if self.is_held else ()

    @property
    def last_known(self) -> datetime:
        """Until when the scheduler knew the job: now, unless it has since said that it does not.

        Observations that change nothing are not recorded, so their age tells nothing; the first UNKNOWN is.
        """
        return self.unknown_since or datetime.now(UTC)


@dataclass(frozen=True)
class FaultRecord(Immutable):
    """A fault that a run met, and when it is tried again (None: not by itself)."""

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
    """A line in a list of runs, out of the read table alone.

    ``carried`` tells the runs that were accepted here from those that another program only recorded.
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
    """One event as it stands in the log. ``name`` is the topic's last word (``StageIntended``, ``TaskStarted``)."""

    number: int
    time: datetime
    name: str
    attributes: Mapping[str, Any]
    subject: UUID
    aggregate: str  #: ``WorkflowRun`` or ``Task``
