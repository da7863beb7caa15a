"""The status of a job: the scheduler's answer, as the engine uses it and as the log records it. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_USAGE = ("elapsed_seconds", "cpu_seconds", "cpus", "gpus", "max_rss_bytes")


class JobState(enum.IntEnum):
    """State of a job as reported by the scheduler, in the order in which a job passes through them."""

    UNKNOWN = 0  #: not found, or an unknown state name. Counts neither as success nor as failure.
    PENDING = 1  #: accepted, waiting; includes requeued and held jobs
    RUNNING = 2  #: started; includes CONFIGURING, COMPLETING, SUSPENDED, STAGE_OUT
    COMPLETED = 3  #: the script ended with 0
    FAILED = 4  #: the script ended with another code
    CANCELLED = 5  #: by its user or an admin
    TIMEOUT = 6  #: over its time limit (or its deadline)
    OUT_OF_MEMORY = 7  #: killed for its memory
    NODE_FAIL = 8  #: its node was lost, or did not boot
    PREEMPTED = 9  #: stopped in favour of another job, and not requeued

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self >= JobState.COMPLETED


@dataclass(frozen=True)
class JobStatus:
    """The status of one job (of one array task if ``task`` is set), as reported by the scheduler.

    Its resource usage is known when accounting has recorded its end (``accounted``), some seconds after the end:
    ``elapsed_seconds`` (wall clock), ``cpu_seconds`` (user and system time of all its processes), the allocated
    ``cpus`` and ``gpus`` of any type, and ``max_rss_bytes``, the largest of any of its processes.
    """

    name: str
    job_id: int
    state: JobState
    raw_state: str
    task: int | None = None
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    node: str = ""
    submitted: datetime | None = None
    elapsed_seconds: int | None = None
    cpu_seconds: float | None = None
    cpus: int | None = None
    gpus: int | None = None
    max_rss_bytes: int | None = None
    progress: str | None = None  #: the progress that the job itself reports (``43%``), while it runs
    in_queue: bool = False  #: reported by squeue, not by accounting
    accounted: bool = False  #: accounting has recorded its end: the status is final
    unrecoverable: bool = False  #: not in the queue, and there is no accounting: how it ended can never be known

    @property
    def is_held(self) -> bool:
        """Whether it certainly waits to be released, by its user or by an administrator.

        Right after a release, squeue prints one row for the waiting tasks of an array, held and released, with all
        their reasons: then it is certain for none of them.
        """
        return self.state is JobState.PENDING and all(one.startswith("JobHeld") for one in self.reason.split(","))

    @classmethod
    def unknown(cls, name: str) -> JobStatus:
        """The status of a job that the scheduler does not know."""
        return cls(name=name, job_id=-1, state=JobState.UNKNOWN, raw_state="")

    def usage(self) -> dict[str, int | float]:
        """What the job used, as far as that is known."""
        return {name: value for name in _USAGE if (value := getattr(self, name)) is not None}

    def observation(self) -> dict[str, str | None]:
        """The part that is recorded whenever it changes while the job waits or runs (the event JobObserved)."""
        return {
            "state": self.state.name,
            "raw_state": self.raw_state,
            "reason": self.reason,
            "node": self.node,
            "progress": self.progress,
        }

    def to_event(self) -> dict[str, Any]:
        """The part that is recorded when the job has ended, enough to judge it again after a crash."""
        return {
            "state": self.state.name,
            "raw_state": self.raw_state,
            "job_id": self.job_id,
            "reason": self.reason,
            "node": self.node,
            "exit_code": self.exit_code,
            "signal": self.signal,
            **({"forgotten": True} if self.unrecoverable else {}),
            **({"usage": self.usage()} if self.usage() else {}),
        }

    @classmethod
    def from_event(cls, recorded: Mapping[str, Any], name: str) -> JobStatus:
        """The status that `to_event` or `observation` recorded for the job of this name; a strange state is UNKNOWN."""
        usage = recorded.get("usage") or {}
        return cls(
            name=name,
            job_id=int(recorded.get("job_id", -1)),
            state=JobState.__members__.get(str(recorded.get("state")), JobState.UNKNOWN),
            raw_state=str(recorded.get("raw_state", "")),
            reason=str(recorded.get("reason", "")),
            node=str(recorded.get("node", "")),
            exit_code=recorded.get("exit_code"),
            signal=recorded.get("signal"),
            progress=recorded.get("progress"),
            unrecoverable=bool(recorded.get("forgotten")),
            **{figure: usage[figure] for figure in _USAGE if figure in usage},
        )


def by_task(found: Sequence[JobStatus], tasks: Iterable[int]) -> dict[int, JobStatus | None]:
    """The status of each task of an array: its own, or that of the whole job, or None if there is none.

    When waiting tasks are cancelled together, squeue prints only one row for the job, without a task.
    """
    own = {status.task: status for status in found}
    return {task: own.get(task, own.get(None)) for task in tasks}
