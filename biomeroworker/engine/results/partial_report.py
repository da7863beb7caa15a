"""The report of a run that is done although some inputs have no result, and the fault of a run without any. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biomeroworker.domain import ranges
from biomeroworker.domain.manifest import InputManifest, ResultManifest
from biomeroworker.domain.summary import name_inputs
from biomeroworker.engine.planning import chunks
from biomeroworker.engine.results.missing_results import inputs_without_result
from biomeroworker.errors import Permanent


def partial_report(
    failed: Sequence[Mapping[str, Any]], skipped: Mapping[str, str], inputs: InputManifest, run: str
) -> dict[str, Any]:
    """The report on the inputs without a result of a run that is done; empty if all inputs have results.

    Parameters
    ----------
    failed
        Why chunks failed, see `WorkflowRun.failed_chunks`.
    skipped
        Inputs without a result whose job or task ended well, see `skipped_inputs`.
    """
    if not failed and not skipped:
        return {}
    total = len(chunks.named_inputs(inputs, range(len(inputs.chunks)))) if inputs.chunks else _size(inputs, skipped)
    report: dict[str, Any] = {}
    messages, steps = [], []
    if failed:
        report["failed"] = [
            {**one, "inputs": chunks.named_inputs(inputs, ranges.parse_ranges(str(one.get("tasks", ""))))}
            for one in failed
        ]
        count = sum(len(one["inputs"]) for one in report["failed"])
        messages.append(f"{count} of {total} images failed: {failed[0].get('message', '')}{_more_causes(failed)}")
        steps.append("fix the cause")
    if skipped:
        report["skipped"] = dict(skipped)
        verb = "has" if len(skipped) == 1 else "have"
        messages.append(f"{len(skipped)} of {total} images {verb} no result: {name_inputs(skipped)}")
        steps.append(f"read why the workflow left them out (biomeroworker logs {run})")
    report["message"] = "; ".join(messages)
    report["next_step"] = f"{', '.join(steps)}, then run: biomeroworker retry {run} --failed"
    return report


def skipped_inputs(inputs: InputManifest, results: ResultManifest, good_chunks: Sequence[int]) -> dict[str, str]:
    """The inputs that a job or a task which ended well left without a result; by key, with the user's name.

    Parameters
    ----------
    good_chunks
        The chunks whose tasks ended well; ignored if the run is one job.
    """
    numbers: Sequence[int | None] = sorted(good_chunks) if inputs.chunks else [None]
    portions = [portion for number in numbers for portion in inputs.portions(number)]
    return inputs_without_result(portions, [file.path for file in results.files])


def _size(inputs: InputManifest, skipped: Mapping[str, str]) -> int:
    """The number of inputs; a plate counts by its fields if results are matched to them."""
    by_field = {key.partition("/")[0] for key in skipped if "/" in key}
    return sum(len(image.fields) if image.key in by_field else 1 for image in inputs.images)


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
