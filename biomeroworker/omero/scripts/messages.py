"""The messages of the scripts that run workflows, in sentences: what was made and where, or what failed and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

from biomeroworker.domain.summary import describe_outputs, without_result

#: Users of OMERO.web have no command line.
_RETRY, _RESUME = "In OMERO.web, run the script Retry Run.", "In OMERO.web, run the script Resume Run."


def accepted(workflow: str, run: UUID) -> str:
    """The message for a run that was accepted."""
    return f"{workflow} is accepted. Run {run}."


def detached(workflow: str, run: UUID) -> str:
    """The message for a run that continues after the script has ended."""
    return (
        f"{workflow} is accepted, and continues without this script. Its results are imported when it is done. To end"
        " it, run the script Cancel Run. An administrator follows it with: biomeroworker show"
        f" {str(run)[:8]}. Run {run}."
    )


def describe(run: Any, datasets: Mapping[int, str] = MappingProxyType({})) -> str:
    """The status of one run; of a run that is done what was made, of a failed run its whole report.

    Parameters
    ----------
    datasets
        The names of datasets by their IDs, as far as they are known.
    """
    state, name, own = str(run.state), run.name, f"Run {run.id}."
    preserved = _preserved_folder(run)
    if state == "done":
        made = describe_outputs(run.report.get("made") or {})
        sentences = [f"Made {made}." if made != "nothing was made" else "Nothing was made."]
        sentences += [where] if (where := _where(run, datasets)) else []
        text = " ".join([*sentences, f"{name} is done.", *preserved, own])
        if without_result(run.report):  # partly done
            problem, step = _sentence(run.report.get("message")), _sentence(run.report.get("next_step"))
            return f"{text}\nNOT all: {problem}\nNext: {step} {_RETRY}"
        return text
    if state == "failed":
        report = run.report
        lines = [f"FAILED: {name} at {report.get('stage')}: {_sentence(report.get('message'))} ({report.get('kind')})"]
        lines += [str(report["detail"])] if report.get("detail") else []
        return "\n".join([*lines, " ".join([f"Next: {_sentence(report.get('next_step'))} {_RETRY}", *preserved, own])])
    if state == "cancelled":
        return " ".join([f"{name} is cancelled.", *preserved, own])
    if getattr(run, "paused", False):
        return f"{name} is PAUSED at {state}: {_sentence(run.pause_reason)} {_RESUME} {own}"
    job = f" as SLURM job {run.job_ids[-1]}" if run.job_ids else ""
    return f"{name} is {state}{job}. {own}"


def _where(run: Any, datasets: Mapping[int, str]) -> str:
    named = [
        f"{datasets[number]!r} (ID {number})" if number in datasets else str(number)
        for kind, number in made_objects([run])
        if kind == "Dataset"
    ]
    if not named:
        return ""
    return f"The images are in the dataset{'s' * (len(named) > 1)} {', '.join(named)}."


def _preserved_folder(run: Any) -> list[str]:
    """The sentence about a folder that is not removed, if there is one."""
    request, plan = getattr(run, "recorded_request", None), getattr(run, "plan", None)
    if request is None or not request.keep_folder or plan is None:
        return []
    return [f"Its folder on the cluster is not removed: {plan.folder or 'below the data folder'}."]


def _sentence(text: Any) -> str:
    """Text with a full stop at its end."""
    words = str(text or "").rstrip()
    return words if words.endswith((".", "!", "?", ":")) or not words else f"{words}."


def made_objects(runs: Sequence[Any]) -> Iterator[tuple[str, int]]:
    """Class and ID of the datasets that the runs made, which a user opens first."""
    for run in runs:
        for outcome in getattr(run, "outcomes", {}).values():
            for made in outcome.get("made", []) if isinstance(outcome.get("made"), list) else []:
                kind, _, number = str(made.get("reference", "")).partition(":")
                if made.get("kind") == "Dataset" and number.isdigit():
                    yield kind, int(number)
