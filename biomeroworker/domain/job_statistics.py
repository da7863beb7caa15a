"""What a job requested and what it used, as accounting recorded it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, TypeVar

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class JobStatistics:
    """Requested and used resources of one job, or of all tasks of an array.

    A value that the cluster did not record is None. For an array, times of processors, processors and GPUs are sums;
    elapsed time and memory are those of the largest task.
    """

    job_id: int
    state: str = ""
    tasks: int = 0  #: tasks of an array that started; 0 for a job that is no array
    partition: str = ""
    node: str = ""
    elapsed_seconds: int | None = None
    time_limit_seconds: int | None = None
    cpus: int | None = None  #: allocated
    cpu_seconds: float | None = None  #: user and system time of all processes
    allocated_cpu_seconds: int | None = None  #: elapsed time × allocated processors
    requested_memory_bytes: int | None = None
    max_rss_bytes: int | None = None  #: of the largest process
    gpus: int | None = None  #: allocated, of any type
    gpu_percent: float | None = None  #: mean use of a GPU; only on clusters that record it

    def to_event(self) -> dict[str, Any]:
        """The values that are known, for the log."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != ""}

    @classmethod
    def from_event(cls, recorded: Mapping[str, Any]) -> Self:
        """The inverse; values that only another version knows are ignored."""
        known = {field.name for field in fields(cls)}
        return cls(**{"job_id": -1, **{name: value for name, value in recorded.items() if name in known}})

    @property
    def time_fraction(self) -> float | None:
        """Elapsed time as a fraction of the limit."""
        return _fraction(self.elapsed_seconds, self.time_limit_seconds)

    @property
    def cpu_fraction(self) -> float | None:
        """Processor time as a fraction of what was allocated."""
        return _fraction(self.cpu_seconds, self.allocated_cpu_seconds)

    @property
    def memory_fraction(self) -> float | None:
        """The largest process's memory as a fraction of the requested memory."""
        return _fraction(self.max_rss_bytes, self.requested_memory_bytes)


def of_array(tasks: Iterable[JobStatistics]) -> JobStatistics:
    """The statistics of an array, from those of its tasks (at least one)."""
    found = list(tasks)
    states = sorted({task.state for task in found})
    nodes = sorted({task.node for task in found if task.node})
    return JobStatistics(
        job_id=found[0].job_id,
        state=", ".join(f"{sum(task.state == state for task in found)} {state}" for state in states),
        tasks=len(found),
        partition=found[0].partition,
        node=", ".join(nodes),
        elapsed_seconds=_largest(task.elapsed_seconds for task in found),
        time_limit_seconds=_largest(task.time_limit_seconds for task in found),
        cpus=_sum(task.cpus for task in found),
        cpu_seconds=_sum(task.cpu_seconds for task in found),
        allocated_cpu_seconds=_sum(task.allocated_cpu_seconds for task in found),
        requested_memory_bytes=_largest(task.requested_memory_bytes for task in found),
        max_rss_bytes=_largest(task.max_rss_bytes for task in found),
        gpus=_sum(task.gpus for task in found),
        gpu_percent=_largest(task.gpu_percent for task in found),
    )


def _fraction(used: float | None, requested: float | None) -> float | None:
    return None if used is None or not requested else used / requested


def _known(values: Iterable[Number | None]) -> list[Number]:
    return [value for value in values if value is not None]


def _largest(values: Iterable[Number | None]) -> Number | None:
    return max(_known(values), default=None)


def _sum(values: Iterable[Number | None]) -> Number | None:
    known = _known(values)
    return sum(known) if known else None
