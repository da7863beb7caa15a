"""The tasks of an array, judged one by one: which are good, which are to be tried again, which have failed for good.

Reads what was fetched; decides. What a run that is only partly done says of itself is put into words here too.
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

#: Of how many different causes the evidence is kept, and how much of each.
MAX_CAUSES, EVIDENCE_CHARACTERS = 20, 2000


@dataclass
class TaskOutcomes:
    """What became of the tasks of one attempt."""

    good: dict[int, ResultManifest] = field(default_factory=dict)
    lost: dict[int, NodeFault] = field(default_factory=dict)
    failed: dict[int, Permanent] = field(default_factory=dict)
    blocked: dict[int, Blocked] = field(default_factory=dict)

    def detail(self) -> dict[str, Any]:
        """As the log keeps it."""
        return {
            "good": ranges.format_ranges(self.good),
            "lost": ranges.format_ranges(self.lost),
            "failed": _grouped(self.failed),
        }


def under_prefix(digests: Mapping[str, str], folder: str) -> dict[str, str]:
    """The digests of what lies below a folder, by path below it."""
    prefix = f"{folder}/"
    return {name.removeprefix(prefix): digest for name, digest in digests.items() if name.startswith(prefix)}


def classify_tasks(
    statuses: Mapping[int, JobStatus], fetched: Path, run: str, attempt: int, digests: Mapping[str, str] | None = None
) -> TaskOutcomes:
    """Hear the three witnesses of each task, and see that what it left has come back whole.

    Parameters
    ----------
    digests
        By path below ``fetched``, as they were taken on the way; what is not among them is read.

    Raises
    ------
    Transient
        A witness of one of them has not spoken yet: look again.
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
    """One line for all tasks that failed for the same cause, with the evidence of the first."""
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
    """Bring the results of tasks together in one folder, as links to the files that were fetched.

    A name that two tasks have given (``summary.csv``) gets the chunk's number in front in both; names that say which
    input they are of meet nobody else's, and stay.

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
    shutil.copyfile(file, place)  # a file system without hard links


# -- partly done ------------------------------------------------------------------------------------------------------


def partial_failure_report(failed: Sequence[Mapping[str, Any]], inputs: InputManifest, run: str) -> dict[str, Any]:
    """What the end of a run says of chunks that failed; nothing where none has."""
    if not failed:
        return {}
    told = [
        {**one, "inputs": chunks.named_inputs(inputs, ranges.parse_ranges(str(one.get("tasks", ""))))} for one in failed
    ]
    count = sum(len(one["inputs"]) for one in told)
    total = len(chunks.named_inputs(inputs, range(len(inputs.chunks))))
    causes = "" if len(failed) == 1 else f", and {len(failed) - 1} more cause{'s' * (len(failed) > 2)}"
    return {
        "failed": told,
        "message": f"{count} of {total} images failed: {failed[0].get('message', '')}{causes}",
        "next_step": f"after mending it: biomeroworker retry {run} --failed",
    }


def all_failed(failed: Sequence[Mapping[str, Any]], chunk_count: int) -> Permanent:
    """The end of a run none of whose chunks is good."""
    first = failed[0]
    more = f" (and {len(failed) - 1} more causes)" if len(failed) > 1 else ""
    return Permanent(
        f"all {chunk_count} tasks failed: {first.get('message', '')}{more}",
        hint=str(first.get("hint", "")),
        detail=str(first.get("detail", "")),
    )


def failed_inputs(report: Mapping[str, Any]) -> dict[str, str]:
    """The inputs that failed, out of the report of a run that is partly done; as `RunRequest.only` has them."""
    failed: Iterable[Mapping[str, Any]] = report.get("failed") or ()
    return {str(key): str(name) for one in failed for key, name in dict(one.get("inputs") or {}).items()}
