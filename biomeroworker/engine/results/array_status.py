"""The status of an array job: its tasks one by one, and all of them as one job. Pure.

While an array waits and runs, one line is recorded: how many of its tasks are in each state. When all tasks have ended,
each task's status is recorded, equal ones together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from biomeroworker.domain import ranges
from biomeroworker.domain.job_status import JobState, JobStatus, by_task


def of_attempt(name: str, found: Sequence[JobStatus], tasks: Iterable[int]) -> tuple[JobStatus, dict[int, JobStatus]]:
    """The scheduler's answer as the status of an attempt's job, and of each of its tasks; of none if it is no array."""
    by_number = per_task(name, found, tasks)
    if by_number:
        return aggregate_array(name, by_number), by_number
    return (found[-1] if found else JobStatus.unknown(name)), {}


def per_task(name: str, found: Sequence[JobStatus], tasks: Iterable[int]) -> dict[int, JobStatus]:
    """The status of each task; UNKNOWN for a task that the scheduler does not know."""
    return {
        task: replace(status or JobStatus.unknown(name), task=task)
        for task, status in by_task(list(found), tasks).items()
    }


def aggregate_array(name: str, tasks: Mapping[int, JobStatus]) -> JobStatus:
    """An array as one job: it runs while any of its tasks may run, and has ended when all have."""
    counts = Counter(status.state for status in tasks.values())
    waiting, running, unknown = counts[JobState.PENDING], counts[JobState.RUNNING], counts[JobState.UNKNOWN]
    if running or (waiting and waiting + unknown < len(tasks)):
        state = JobState.RUNNING
    elif waiting:
        state = JobState.PENDING
    elif unknown:
        state = JobState.UNKNOWN
    else:
        state = JobState.COMPLETED if counts[JobState.COMPLETED] == len(tasks) else JobState.FAILED
    known = [status for status in tasks.values() if status.job_id >= 0]
    reasons = {status.reason for status in tasks.values() if status.state is JobState.PENDING}
    return JobStatus(
        name=name,
        job_id=known[0].job_id if known else -1,
        state=state,
        raw_state=", ".join(f"{count} {one.name}" for one, count in sorted(counts.items())) if known else "",
        reason=next(iter(reasons)) if len(reasons) == 1 else "",
    )


def count_ended(tasks: Mapping[int, JobStatus]) -> int:
    """How many of the tasks have ended."""
    return sum(status.state.is_terminal for status in tasks.values())


def is_final(status: JobStatus, tasks: Mapping[int, JobStatus]) -> bool:
    """Whether the status of a job, or of every task of an array, will not change any more."""
    return all(one.state.is_terminal or one.unrecoverable for one in (tasks.values() or [status]))


def to_event(status: JobStatus, tasks: Mapping[int, JobStatus]) -> dict[str, Any]:
    """The end of a job, as the intent to fetch its results records it; of an array task by task."""
    recorded = status.to_event()
    if tasks:
        recorded["tasks"] = tasks_to_event(tasks)
        if used := usage(tasks.values()):
            recorded["usage"] = used
    return recorded


def tasks_to_event(tasks: Mapping[int, JobStatus]) -> list[dict[str, Any]]:
    """The status of each task; equal ones in one line, so that a thousand tasks fit into an event."""
    lines: dict[str, tuple[list[int], dict[str, Any]]] = {}
    for task, status in tasks.items():
        recorded = {key: value for key, value in status.to_event().items() if key != "usage"}
        lines.setdefault(repr(recorded), ([], recorded))[0].append(task)
    return [{"tasks": ranges.format_ranges(numbers), **recorded} for numbers, recorded in lines.values()]


def tasks_from_event(lines: Iterable[Mapping[str, Any]], name: str, tasks: Iterable[int]) -> dict[int, JobStatus]:
    """The inverse of `tasks_to_event`; a task that was not recorded is UNKNOWN."""
    found = {
        task: JobStatus.from_event(line, name)
        for line in lines
        for task in ranges.parse_ranges(str(line.get("tasks", "")))
    }
    return {task: replace(found.get(task, JobStatus.unknown(name)), task=task) for task in tasks}


def usage(tasks: Iterable[JobStatus]) -> dict[str, Any]:
    """What the tasks of an array used, as far as accounting has it: sums, and the memory of the largest task."""
    total: dict[str, Any] = {}
    for status in tasks:
        for name, value in status.usage().items():
            total[name] = max(total.get(name, 0), value) if name == "max_rss_bytes" else total.get(name, 0) + value
    return total
