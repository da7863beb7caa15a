"""Jobs for a batch system, as data, and its limits.

The states of jobs are in `domain.job_status`, the functions for SLURM in `commands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class JobSpec:
    """A job to submit: ``name`` is the attempt's id, which finds the job if its id is not known.

    ``options`` are ``sbatch``'s long options without dashes; an empty value is an option without a value. ``array``
    lists the tasks of an array job (``1,3,7-9%4``: at most four at the same time). With ``hold`` the tasks wait until
    they are released.
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
    """SLURM's limits for array jobs."""

    max_array_size: int = 1001  #: MaxArraySize of slurm.conf: the largest task number is one less
    max_array_tasks: int = 0  #: SchedulerParameters=max_array_tasks; 0 is no limit
    max_job_count: int = 10000

    @property
    def tasks(self) -> int:
        """How many tasks an array may have, if they count from 0."""
        most = min(self.max_array_size, self.max_job_count)
        return max(0, min(most, self.max_array_tasks) if self.max_array_tasks else most)
