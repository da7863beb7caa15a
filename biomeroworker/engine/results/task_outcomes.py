"""Evaluate the tasks of an array one by one: which are good, which are retried, which have failed.

It reads the fetched files and decides. The report of a run of which some tasks failed is also made here.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biomeroworker.domain import ranges
from biomeroworker.domain.job_status import JobStatus
from biomeroworker.domain.manifest import InputManifest, ResultFile, ResultManifest, folder_name
from biomeroworker.engine.planning import chunks
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


# -- reports of partial failures --------------------------------------------------------------------------------------


def partial_failure_report(failed: Sequence[Mapping[str, Any]], inputs: InputManifest, run: str) -> dict[str, Any]:
    """The report on the failed chunks of a run that is done; empty if none has failed."""
    if not failed:
        return {}
    reported = [
        {**one, "inputs": chunks.named_inputs(inputs, ranges.parse_ranges(str(one.get("tasks", ""))))} for one in failed
    ]
    count = sum(len(one["inputs"]) for one in reported)
    total = len(chunks.named_inputs(inputs, range(len(inputs.chunks))))
    return {
        "failed": reported,
        "message": f"{count} of {total} images failed: {failed[0].get('message', '')}{_more_causes(failed)}",
        "next_step": f"fix the cause, then run: biomeroworker retry {run} --failed",
    }


def all_failed(failed: Sequence[Mapping[str, Any]], chunk_count: int) -> Permanent:
    """The fault of a run without any good chunk."""
    first = failed[0]
    return Permanent(
        f"all {chunk_count} tasks failed: {first.get('message', '')}{_more_causes(failed)}",
        hint=str(first.get("hint", "")),
        detail=str(first.get("detail", "")),
    )


def _more_causes(failed: Sequence[Mapping[str, Any]]) -> str:
    more = len(failed) - 1
    if not more:
        return ""
    return ", and 1 more cause" if more == 1 else f", and {more} more causes"


def failed_inputs(report: Mapping[str, Any]) -> dict[str, str]:
    """The failed inputs in the report of a run that is partly done, in the form of `RunRequest.only`."""
    failed: Iterable[Mapping[str, Any]] = report.get("failed") or ()
    return {str(key): str(name) for one in failed for key, name in dict(one.get("inputs") or {}).items()}
