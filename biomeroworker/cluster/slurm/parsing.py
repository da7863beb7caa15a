"""Parse states, numbers, times and ranges as SLURM's commands print them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from biomeroworker.domain.job_status import JobState
from biomeroworker.domain.ranges import format_ranges

#: State names of squeue(1) and sacct(1), JOB STATE CODES. All others are UNKNOWN.
STATES: Mapping[str, JobState] = {
    "PENDING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "EXPEDITING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "CONFIGURING": JobState.RUNNING,
    "POWER_UP_NODE": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "UPDATE_DB": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAIL,
    "BOOT_FAIL": JobState.NODE_FAIL,
    "PREEMPTED": JobState.PREEMPTED,
}


def state_of(word: str) -> JobState:
    """The state of a name as SLURM prints it, also ``CANCELLED by 2001`` and ``COMPLETED+``; UNKNOWN if it is new."""
    words = word.split()
    return STATES.get(words[0].rstrip("+").upper(), JobState.UNKNOWN) if words else JobState.UNKNOWN


def node_is_out(state: str) -> bool:
    """Whether no job starts on a node in this state (sinfo's ``%t``). A final ``*`` means that it does not respond."""
    return state.endswith("*") or bool(re.match(r"down|dr|fail|unk|maint|inval", state))


# -- array tasks -------------------------------------------------------------------------------------------------------


def array_expression(tasks: Iterable[int], limit: int = 0) -> str:
    """``1,3,7-9%4``: these tasks, at most ``limit`` at the same time (0: no limit).

    Without steps (``0-8:2``), which sbatch and squeue accept but scontrol refuses.
    """
    numbers = set(tasks)
    if not numbers or min(numbers) < 0:
        raise ValueError("an array has at least one task, and its tasks count from 0")
    listed = format_ranges(numbers)
    return f"{listed}%{limit}" if limit > 0 else listed


def tasks_of(expression: str) -> Iterator[int | None]:
    """The tasks of one row of squeue: ``N/A`` (no array), ``4``, or the waiting tasks as ``0,5-7:2%2``."""
    listed = expression.strip("[]").partition("%")[0]
    numbers: list[int | None] = []
    for part in listed.split(","):
        first_last, _, step = part.partition(":")
        first, _, last = first_last.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last if last.isdigit() else first) + 1, int(step) if step.isdigit() else 1)
    yield from numbers or [None]


# -- numbers -----------------------------------------------------------------------------------------------------------


def blank_to_empty(text: str) -> str:
    """The text; empty for the words that SLURM prints for no value."""
    return "" if text.strip() in ("None", "(null)", "N/A", "None assigned", "Unknown", "") else text.strip()


def count(text: str) -> int | None:
    """A plain number."""
    return int(text) if text.strip().isdigit() else None


def parse_time(text: str) -> datetime | None:
    """A time, in UTC because the commands run with ``TZ=UTC``."""
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        return None


def duration(text: str) -> float | None:
    """Seconds in ``[days-][hours:]minutes:seconds[.fraction]``."""
    days, _, clock = text.strip().rpartition("-")
    clock, _, fraction = clock.partition(".")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, fraction or "0", days or "0"]):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0) + (float(f"0.{fraction}") if fraction else 0)


def exit_of(text: str) -> tuple[int | None, int | None]:
    """Code and signal in ``42:0``; a signal of 0 is none."""
    code, _, signal = text.partition(":")
    return (count(code), count(signal) or None)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def size(text: str) -> int | None:
    """Bytes in ``1.5M``, also ``4Gn`` and ``4Gc`` (per node, per CPU)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?", text.strip())
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def gpus_of(tres: str) -> int | None:
    """How many GPUs are in ``billing=1,cpu=1,gres/gpu:a100=2,gres/gpu=2,mem=20M``; None if there is no entry.

    A site that counts GPUs by type only has no plain entry (slurm.conf(5), AccountingStorageTRES).
    """
    found = dict(item.partition("=")[::2] for item in tres.strip().split(",") if "=" in item)
    if not found:
        return None
    if "gres/gpu" in found:
        return count(found["gres/gpu"])
    return sum(count(value) or 0 for name, value in found.items() if name.startswith("gres/gpu:"))
