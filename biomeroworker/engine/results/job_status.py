"""What the scheduler said of a job, as the log keeps it: so that the verdict can be given again after a crash. Pure.

An array is one line: how many of its tasks are where. Its tasks are written down one by one when all have ended, those
of which the same was said together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from biomeroworker.cluster.slurm.scheduler import JobState, JobStatus, by_task
from biomeroworker.domain import ranges


def unknown(name: str) -> JobStatus:
    """What is known of a job that nobody has heard of."""
    return JobStatus(name=name, job_id=-1, state=JobState.UNKNOWN, raw_state="")


def per_task(name: str, found: Sequence[JobStatus], tasks: Iterable[int]) -> dict[int, JobStatus]:
    """The status of each task; one that nobody has heard of is unknown."""
    return {task: replace(status or unknown(name), task=task) for task, status in by_task(list(found), tasks).items()}


def aggregate_array(name: str, tasks: Mapping[int, JobStatus]) -> JobStatus:
    """An array as if it were one job: it runs while any of its tasks may, and has ended when all have."""
    counts = Counter(status.state for status in tasks.values())
    waiting, running, unheard = counts[JobState.PENDING], counts[JobState.RUNNING], counts[JobState.UNKNOWN]
    if running or (waiting and waiting + unheard < len(tasks)):
        state = JobState.RUNNING
    elif waiting:
        state = JobState.PENDING
    elif unheard:
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


def ended(tasks: Mapping[int, JobStatus]) -> int:
    """How many of the tasks have ended."""
    return sum(status.state.is_terminal for status in tasks.values())


def is_final(status: JobStatus, tasks: Mapping[int, JobStatus]) -> bool:
    """Whether no more is to come of a job, or of any task of an array."""
    return all(one.state.is_terminal or one.unrecoverable for one in (tasks.values() or [status]))


def to_dict(status: JobStatus) -> dict[str, Any]:
    """What of a status goes into the log, so that the verdict can be given again after a crash."""
    return {
        "state": status.state.name,
        "raw_state": status.raw_state,
        "job_id": status.job_id,
        "reason": status.reason,
        "node": status.node,
        "exit_code": status.exit_code,
        "signal": status.signal,
        **({"forgotten": True} if status.unrecoverable else {}),
        **({"usage": status.usage()} if status.usage() else {}),
    }


def from_dict(described: Mapping[str, Any], name: str) -> JobStatus:
    """The inverse of `to_dict`."""
    return JobStatus(
        name=name,
        job_id=int(described.get("job_id", -1)),
        state=JobState[str(described.get("state", "UNKNOWN"))],
        raw_state=str(described.get("raw_state", "")),
        reason=str(described.get("reason", "")),
        node=str(described.get("node", "")),
        exit_code=described.get("exit_code"),
        signal=described.get("signal"),
        unrecoverable=bool(described.get("forgotten")),
    )


def tasks_to_dicts(tasks: Mapping[int, JobStatus]) -> list[dict[str, Any]]:
    """The same of the tasks of an array; those that say the same in one line, so that a thousand fit into an event."""
    lines: dict[str, tuple[list[int], dict[str, Any]]] = {}
    for task, status in tasks.items():
        said = {key: value for key, value in to_dict(status).items() if key != "usage"}
        lines.setdefault(repr(said), ([], said))[0].append(task)
    return [{"tasks": ranges.format_ranges(numbers), **said} for numbers, said in lines.values()]


def tasks_from_dicts(described: Iterable[Mapping[str, Any]], name: str, tasks: Iterable[int]) -> dict[int, JobStatus]:
    """The inverse of `tasks_to_dicts`; a task of which nothing was written down is unknown."""
    found = {
        task: from_dict(line, name) for line in described for task in ranges.parse_ranges(str(line.get("tasks", "")))
    }
    return {task: replace(found.get(task, unknown(name)), task=task) for task in tasks}


def usage(tasks: Iterable[JobStatus]) -> dict[str, Any]:
    """What the tasks of an array used together, as far as accounting has said; memory is that of the largest."""
    total: dict[str, Any] = {}
    for status in tasks:
        for name, value in status.usage().items():
            total[name] = max(total.get(name, 0), value) if name == "max_rss_bytes" else total.get(name, 0) + value
    return total
