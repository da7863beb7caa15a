"""What a batch system is to the engine: jobs described as data, and its limits.

The states of jobs are in `domain.job_status`, the pure functions for SLURM in `commands`; nothing here or there opens
a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
