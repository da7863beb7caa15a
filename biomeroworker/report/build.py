"""Build the report of a run from its history and from what is known of its inputs and jobs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from biomeroworker import __version__
from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.domain.manifest import InputManifest, ResultFile, ResultManifest
from biomeroworker.domain.request import RecordedRequest
from biomeroworker.domain.source import Output
from biomeroworker.domain.summary import count_outputs, describe_outputs, without_result
from biomeroworker.eventlog.aggregates.durations import Period
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.report.model import Figures, Job, Notice, RunReport, Stage

#: Names that one warning lists.
NAMES = 50
_OUTCOMES = {
    RunState.DONE: "Done",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
}
#: Kinds of outputs that were made; all others report what was left out.
_MADE = frozenset(("Image", "Roi", "Table", "File", "file", "Dataset"))


def build(
    run: WorkflowRun,
    periods: Sequence[Period],
    written: datetime,
    *,
    state: RunState | None = None,
    made: Sequence[Output] | None = None,
    partial: Mapping[str, Any] | None = None,
    inputs: InputManifest | None = None,
    results: ResultManifest | None = None,
    figures: Figures | None = None,
    statistics: Mapping[int, JobStatistics] | None = None,
) -> RunReport:
    """The report of a run.

    Parameters
    ----------
    periods
        When the run was in which state.
    state, made, partial
        Of a run whose end is not recorded yet: its state at the end, what the import made, and the report on its
        failed inputs.
    inputs, results, figures
        The inputs, results and pictures, if they are still known.
    statistics
        By job id; those that the log has are used without it.
    """
    state = state or run.state
    request = run.recorded_request
    report = dict(run.report if partial is None else partial)
    outputs = made if made is not None else recorded_outputs(run)
    jobs = statistics if statistics is not None else recorded_statistics(run)
    ended = state.is_terminal
    return RunReport(
        run=str(run.id),
        workflow=run.workflow,
        version=run.workflow_version,
        state=state.value,
        outcome=_outcome(run, state, report),
        made=describe_outputs(_counts(outputs)) if state is RunState.DONE else "",
        user=_named(request.user_name, run.user),
        group=_named(request.group_name, run.group),
        accepted=run.created_on,
        ended=(run.modified_on if run.state.is_terminal else written) if ended else None,
        written=written,
        program=f"biomeroworker {__version__}",
        inputs=describe_inputs(request.inputs),
        input_names=tuple((image.key, image.name) for image in inputs.images) if inputs else (),
        parameters=_parameters(run, request),
        stages=tuple(Stage(one.state.value, one.start, one.seconds, one.paused) for one in periods),
        jobs=tuple(
            Job(one.number, one.name, one.job_id, jobs.get(one.job_id))
            for one in run.attempts.values()
            if one.job_id is not None
        ),
        job_options=tuple((run.plan.options if run.plan else request.job_options).items()),
        figures=figures or Figures(),
        failure=_failure(state, report, run),
        warnings=(
            *_failed_inputs(report),
            *_skipped_inputs(report),
            *_left_out(outputs),
            *_odd_files(inputs, results),
            *_faults(run),
        ),
        provenance=tuple(_provenance(run)),
        commands=tuple(_commands(run, request)),
    )


def recorded_outputs(run: WorkflowRun) -> list[Output]:
    """What the import made, as the log has it."""
    recorded: Iterable[object] = run.outcomes.get(RunState.IMPORTING, {}).get("made") or ()
    return [
        Output(str(one.get("kind")), str(one.get("reference")), str(one.get("result")), int(one.get("count", 1)))
        for one in recorded
        if isinstance(one, Mapping)
    ]


def recorded_statistics(run: WorkflowRun) -> dict[int, JobStatistics]:
    """The statistics of the run's jobs, as the log has them."""
    recorded: Iterable[Mapping[str, Any]] = run.outcomes.get(RunState.IMPORTING, {}).get("statistics") or ()
    return {found.job_id: found for found in map(JobStatistics.from_event, recorded)}


def describe_inputs(inputs: Mapping[str, Any]) -> str:
    """What was requested, in words: ``Dataset 12, 13``, or a folder."""
    if "folder" in inputs:
        return f"folder {inputs['folder']}"
    ids = inputs.get("ids") or ()
    return f"{inputs.get('type', 'inputs')} {', '.join(map(str, ids))}".strip() if ids else ""


def _outcome(run: WorkflowRun, state: RunState, report: Mapping[str, Any]) -> str:
    if state is RunState.DONE and without_result(report):
        return "Partly done"
    if state.is_terminal:
        return _OUTCOMES[state]
    return f"Paused at {state.value}" if run.paused else f"In progress: {state.value}"


def _counts(outputs: Iterable[Output]) -> dict[str, int]:
    return {kind: count for kind, count in count_outputs(outputs).items() if kind in _MADE}


def _named(name: str, number: int) -> str:
    if not name:
        return str(number) if number >= 0 else ""
    return f"{name} ({number})" if number >= 0 else name


def _parameters(run: WorkflowRun, request: RecordedRequest) -> tuple[tuple[str, str, bool], ...]:
    values = run.plan.parameters if run.plan else request.parameters
    return tuple((name, _text(value), name not in request.parameters) for name, value in values.items())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


# -- what a reader must know -----------------------------------------------------------------------------------------


def _failure(state: RunState, report: Mapping[str, Any], run: WorkflowRun) -> Notice | None:
    """Why the run failed, was cancelled or is paused."""
    if state in (RunState.FAILED, RunState.CANCELLED):
        stage = f"at {report['stage']}: " if report.get("stage") else ""
        return Notice(
            stage + str(report.get("message", "")), str(report.get("detail", "")), str(report.get("next_step", ""))
        )
    if run.paused and not state.is_terminal:
        return Notice(run.pause_reason, next_step=f"fix the cause, then run: biomeroworker resume {run.id}")
    return None


def _failed_inputs(report: Mapping[str, Any]) -> Iterator[Notice]:
    for one in report.get("failed") or ():
        names = [str(name) for name in dict(one.get("inputs") or {}).values()]
        count = "1 input" if len(names) == 1 else f"{len(names)} inputs"
        next_step = str(one.get("hint") or report.get("next_step", ""))
        yield Notice(f"{count} failed: {one.get('message', '')}", _listed(names), next_step)


def _skipped_inputs(report: Mapping[str, Any]) -> Iterator[Notice]:
    skipped = dict(report.get("skipped") or {})
    if skipped:
        count = "1 input has" if len(skipped) == 1 else f"{len(skipped)} inputs have"
        names = [f"{name} ({key})" if name else key for key, name in skipped.items()]
        yield Notice(
            f"{count} no result, although the workflow ended without an error",
            _listed(names),
            str(report.get("next_step", "")),
        )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMES
    return "\n".join(names[:NAMES]) + (f"\nand {more} more" if more > 0 else "")


def _left_out(outputs: Iterable[Output]) -> Iterator[Notice]:
    left_out: dict[str, int] = {}
    for one in outputs:
        if one.kind not in _MADE:
            left_out[one.kind] = left_out.get(one.kind, 0) + one.count
    for kind, count in left_out.items():
        text = describe_outputs({kind: count})
        yield Notice(text[:1].upper() + text[1:])


def _odd_files(inputs: InputManifest | None, results: ResultManifest | None) -> Iterator[Notice]:
    """Result files that are empty, or that name an image which is not an input."""
    if inputs is None or results is None:
        return
    keys = {image.key for image in inputs.images}
    odd: dict[str, list[ResultFile]] = {}
    for file in results.files:
        if file.size == 0 and ".zarr/" not in file.path:
            odd.setdefault("empty", []).append(file)
        elif file.input_key is not None and file.input_key not in keys:
            odd.setdefault("named after an image that is not an input", []).append(file)
    for problem, files in odd.items():
        count = "1 result file is" if len(files) == 1 else f"{len(files)} result files are"
        yield Notice(f"{count} {problem}", _listed([file.path for file in files]))


def _faults(run: WorkflowRun) -> Iterator[Notice]:
    """The faults that the run met and survived; equal ones together."""
    met: dict[tuple[str, str], list[str]] = {}
    final = str(run.report.get("message", "")) if run.state is RunState.FAILED else None
    for fault in run.faults:
        if fault.message != final:
            met.setdefault((fault.stage.value, fault.message), []).append(fault.detail)
    for (stage, message), details in met.items():
        times = "" if len(details) == 1 else f" ({len(details)} times)"
        yield Notice(f"A fault at {stage}{times}: {message}", details[-1])


# -- provenance ------------------------------------------------------------------------------------------------------


def _provenance(run: WorkflowRun) -> Iterator[tuple[str, str]]:
    plan = run.plan
    values = [
        ("Run", str(run.id)),
        ("Retry of run", run.recorded_request.retry_of),
        ("Workflow", run.workflow),
        ("Version", run.workflow_version),
        ("Image on the cluster", plan.image if plan else ""),
        ("Image digest", plan.digest if plan else ""),
        ("Converter", plan.converter if plan else ""),
        ("Cluster", plan.cluster if plan else ""),
        ("Attempts", str(run.attempt)),
        ("SLURM jobs", ", ".join(map(str, run.job_ids))),
        ("Tasks", str(run.chunks or "")),
    ]
    return ((name, value) for name, value in values if value)


def _commands(run: WorkflowRun, request: RecordedRequest) -> Iterator[tuple[str, str]]:
    if run.request is None:
        return
    if request.source != "folder" or run.state in (RunState.FAILED, RunState.CANCELLED):  # else its folder has results
        newest = "" if request.version else ", with the newest version of the workflow"
        yield f"The same request again, as a new run{newest}", f"biomeroworker retry {run.id}"
    folder = request.inputs.get("folder", "") if request.source == "folder" else "FOLDER_WITH_IMAGES"
    argv = ["biomeroworker", "run", run.workflow, "--input", str(folder), "--output", "NEW_FOLDER"]
    if run.workflow_version:
        argv += ["--version", run.workflow_version]
    for name, value in (run.plan.parameters if run.plan else request.parameters).items():
        if value is not None:
            argv += ["--parameter", f"{name}={value}"]
    for name, value in request.job_options.items():
        argv += ["--job-option", f"{name}={value}"]
    if request.batch_size:
        argv += ["--batch-size", str(request.batch_size)]
    yield "This version and these parameters, on a folder of images", shlex.join(argv)
