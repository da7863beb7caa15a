"""What a batch system is to the engine: jobs described as data, and the states they pass through.

The pure functions for SLURM are in `commands`; nothing here or there opens a connection.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


class JobState(enum.IntEnum):
    """What the scheduler says of a job, in the order in which a job can pass through."""

    UNKNOWN = 0  #: not heard of, or a word we do not know. Never success, never failure.
    PENDING = 1  #: accepted, waiting; includes requeued and held jobs
    RUNNING = 2  #: started; includes CONFIGURING, COMPLETING, SUSPENDED, STAGE_OUT
    COMPLETED = 3  #: the script ended with 0
    FAILED = 4  #: the script ended otherwise
    CANCELLED = 5  #: by its user or an admin
    TIMEOUT = 6  #: over its time limit (or its deadline)
    OUT_OF_MEMORY = 7  #: killed for its memory
    NODE_FAIL = 8  #: its node was lost, or did not boot
    PREEMPTED = 9  #: had to make way, and will not come back

    @property
    def is_terminal(self) -> bool:
        """Whether the scheduler has done with the job."""
        return self >= JobState.COMPLETED


@dataclass(frozen=True)
class JobSpec:
    """What is submitted: ``name`` is the attempt's id, by which the job is found again after any doubt.

    ``options`` are ``sbatch``'s long options without dashes; an empty value is an option without one. ``array`` lists
    the tasks of an array job (``1,3,7-9%4``: at most four at once); ``hold`` keeps all of it waiting until it, or some
    of its tasks, are released.
    """

    name: str
    script: str
    stdout: str
    workdir: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    array: str = ""
    hold: bool = False


@dataclass(frozen=True)
class JobStatus:
    """What the scheduler says of one job (of one array task, when ``task`` is set).

    What it used is known once accounting has spoken of its end (``accounted``), seconds after the end itself:
    ``elapsed_seconds`` by the clock, ``cpu_seconds`` of user and system time in all its processes, the ``cpus`` and the
    ``gpus`` of any type that were allotted to it, and the largest ``max_rss_bytes`` of any of its processes.
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
    progress: str | None = None  #: what the job itself says of how far it is (``43%``), while it runs
    in_queue: bool = False  #: told by the queue itself, not by accounting
    accounted: bool = False  #: accounting has said how it ended: no more is to come
    unrecoverable: bool = False  #: it is not in the queue, and there is no accounting: no more is to come, of any kind

    @property
    def is_held(self) -> bool:
        """Whether it certainly waits to be released, by its user or by an admin.

        Right after a release the queue tells the waiting tasks of an array, held and released, in one row with all of
        their reasons: of no task of it is that certain then.
        """
        return self.state is JobState.PENDING and all(one.startswith("JobHeld") for one in self.reason.split(","))

    def usage(self) -> dict[str, int | float]:
        """What it used, as far as that is known."""
        names = ("elapsed_seconds", "cpu_seconds", "cpus", "gpus", "max_rss_bytes")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def by_task(found: Sequence[JobStatus], tasks: Iterable[int]) -> dict[int, JobStatus | None]:
    """The status of each task of an array: its own, or that of the whole job, or None when nobody knows of it.

    Of waiting tasks that are cancelled together the queue says only that the job, without a number, is cancelled.
    """
    own = {status.task: status for status in found}
    return {task: own.get(task, own.get(None)) for task in tasks}


@dataclass(frozen=True)
class Limits:
    """What one array job may be on a cluster, and for how long the queue remembers a job that has ended."""

    max_array_size: int = 1001  #: slurm.conf's: the largest number of a task is one less
    max_array_tasks: int = 0  #: SchedulerParameters=max_array_tasks; 0 is no limit of its own
    max_job_count: int = 10000
    min_job_age_seconds: int = 300
    version: str = ""

    @property
    def tasks(self) -> int:
        """How many tasks an array that counts from 0 may have."""
        most = min(self.max_array_size, self.max_job_count)
        return max(0, min(most, self.max_array_tasks) if self.max_array_tasks else most)
