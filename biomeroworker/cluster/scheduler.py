"""What a batch system is to the engine: jobs described as data, and the states they pass through.

The pure functions for SLURM are in `slurm`; nothing here or there opens a connection.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
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

    ``options`` are ``sbatch``'s long options without dashes; an empty value is an option without one.
    """

    name: str
    script: str
    stdout: str
    workdir: str
    arguments: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    array: str = ""


@dataclass(frozen=True)
class JobStatus:
    """What the scheduler says of one job (of one array task, when ``task`` is set)."""

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
    max_rss_bytes: int | None = None
    in_queue: bool = False  #: told by the queue itself, not by accounting
