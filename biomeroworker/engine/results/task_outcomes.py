"""Evaluate the tasks of an array one by one: which are good, which are retried, which have failed.

It reads the fetched files and decides.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biomeroworker.domain import ranges
from biomeroworker.domain.job_status import JobStatus
from biomeroworker.domain.manifest import ResultFile, ResultManifest, folder_name
from biomeroworker.errors import Blocked, Fault, NodeFault, Permanent, Transient
from biomeroworker.workflows import attempt_folder, markers
from biomeroworker.workflows.outcome import verdict, verify

#: For how many different causes evidence is recorded, and how much for each.
MAX_CAUSES, EVIDENCE_CHARACTERS = 20, 2000


@dataclass
class TaskOutcomes:
    """The outcomes of the tasks of one attempt."""

    good: dict[int, ResultManifest] = field(default_factory=dict)
    lost: dict[int, NodeFault] = field(default_factory=dict)
    failed: dict[int, Permanent] = field(default_factory=dict)
    blocked: dict[int, Blocked] = field(default_factory=dict)

    def detail(self) -> dict[str, Any]:
        """The values that the log records."""
        return {
            "good": ranges.format_ranges(self.good),
            "lost": ranges.format_ranges(self.lost),
            "failed": _grouped(self.failed),
        }


def under_prefix(digests: Mapping[str, str], folder: str) -> dict[str, str]:
    """The digests of the files below a folder, by path relative to it."""
    prefix = f"{folder}/"
    return {name.removeprefix(prefix): digest for name, digest in digests.items() if name.startswith(prefix)}


def classify_tasks(
    statuses: Mapping[int, JobStatus], fetched: Path, run: str, attempt: int, digests: Mapping[str, str] | None = None
) -> TaskOutcomes:
    """Evaluate the three witnesses of each task, and check that its results were fetched completely.

    Parameters
    ----------
    digests
        Of fetched files, by path below ``fetched``, as computed during the transfer; other files are read.

    Raises
    ------
    Transient
        A witness of a task is still missing: try again later.
    """
    found = TaskOutcomes()
    known: dict[str, dict[str, str]] = {}
    for name, digest in (digests or {}).items():
        task_folder, _, path = name.partition(f"/{attempt_folder.OUT}/")
        known.setdefault(task_folder, {})[path] = digest
    for task, status in statuses.items():
        folder = fetched / attempt_folder.task_name(task)
        try:
            results = verdict(status, folder, run, attempt)
            verify(results, folder / attempt_folder.OUT, known.get(folder.name))
        except NodeFault as fault:
            found.lost[task] = fault
        except Permanent as fault:
            found.failed[task] = fault
        except Blocked as fault:
            found.blocked[task] = fault
        except Transient as fault:
            raise Transient(f"task {task}: {fault}", hint=fault.hint, detail=fault.detail) from fault
        else:
            found.good[task] = results
    return found


def _grouped(failed: Mapping[int, Fault]) -> list[dict[str, Any]]:
    """One entry for all tasks that failed for the same cause, with the evidence of the first task."""
    causes: dict[tuple[str, str], list[int]] = {}
    for task, fault in failed.items():
        causes.setdefault((str(fault), fault.hint), []).append(task)
    return [
        {
            "tasks": ranges.format_ranges(tasks),
            "message": message,
            "hint": hint,
            "detail": failed[tasks[0]].detail[-EVIDENCE_CHARACTERS:] if number < MAX_CAUSES else "",
        }
        for number, ((message, hint), tasks) in enumerate(causes.items())
    ]


def merge_results(good: Mapping[int, Path], into: Path, run: str, attempt: int) -> ResultManifest:
    """Collect the results of all good tasks in one folder, as links to the fetched files.

    A name that several tasks use (``summary.csv``) gets the number of the chunk as a prefix, in each of them. Names
    that contain the key of an input are unique and do not change.

    Parameters
    ----------
    good
        The fetched folder of each good task.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    found = {task: markers.read_markers(folder).results or () for task, folder in good.items()}
    names = Counter(result.path.casefold() for results in found.values() for result in results)
    files: list[ResultFile] = []
    for task, results in sorted(found.items()):
        for result in results:
            path = result.path
            while names[path.casefold()] > 1:
                path = f"{folder_name(task)}/{path}"
            _link(good[task] / attempt_folder.OUT / result.path, into / path)
            files.append(result.model_copy(update={"path": path}))
    return ResultManifest(run=run, attempt=attempt, files=tuple(sorted(files, key=lambda file: file.path)))


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        place.hardlink_to(file)
        return
    shutil.copyfile(file, place)  # the file system has no hard links
