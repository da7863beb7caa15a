"""One run for ``biomeroworker show``: as a dict, which is what ``--json`` prints, and as text, made from this dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from biomeroworker.cli.common import harmless, out
from biomeroworker.domain.summary import name_inputs
from biomeroworker.eventlog.aggregates.records import Attempt, RunSummary
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState

#: Characters of an event's attribute that are shown; ``show --json`` has all of them.
ATTRIBUTE_CHARACTERS = 160
TIME_FORMAT = "%Y-%m-%d %H:%M:%S UTC"
_STYLES = {RunState.DONE: "green", RunState.FAILED: "red", RunState.CANCELLED: "yellow"}


def run_to_dict(run: WorkflowRun, events: Iterable[Any], seconds: Mapping[RunState, float]) -> dict[str, Any]:
    """All facts about a run.

    Parameters
    ----------
    events
        The run's events, oldest first.
    seconds
        The time that the run spent in each state.
    """
    return {
        "run": run.id,
        "name": run.name,
        "workflow": run.workflow,
        "user": run.user,
        "group": run.group,
        "accepted": run.created_on,
        "modified": run.modified_on,
        "state": run.state.value,
        "paused": run.paused,
        "pause_reason": run.pause_reason,
        "cancel_requested": run.cancel_requested,
        "cancelled_by": run.cancelled_by,
        "attempt": run.attempt,
        "attempts": [_attempt_to_dict(attempt) for attempt in run.attempts.values()],
        "chunks": run.chunks,
        "folder": run.plan.folder if run.plan else "",
        "keep_folder": run.recorded_request.keep_folder,
        "retry_of": run.recorded_request.retry_of,
        "job_ids": run.job_ids,
        "request": run.request,
        "outcomes": run.outcomes,
        "faults": [vars(fault) for fault in run.consecutive_faults(run.faults[-1].stage)] if run.faults else [],
        "seconds": {state.value: spent for state, spent in seconds.items()},
        "report": run.report,
        "without_result": run.without_result,
        "events": [vars(event) for event in events],
    }


def summary_to_dict(run: RunSummary) -> dict[str, Any]:
    """A run of the list, with the key names of ``runs --json``."""
    return {{"managed": "carried"}.get(name, name): value for name, value in vars(run).items()}


def _attempt_to_dict(attempt: Attempt) -> dict[str, Any]:
    """An attempt, with the key names of ``show --json``."""
    keys = {"started": "begun", "preloaded": "ready", "released": "fed"}
    values: dict[str, Any] = {
        keys.get(name, name): sorted(value) if isinstance(value, frozenset) else value
        for name, value in vars(attempt).items()
    }
    when, seen = values.pop("observed"), attempt.observation
    observation = None if seen is None else {**seen.observation(), "when": when}
    return {**values, "observation": observation, "unreleased": attempt.unreleased}


def print_run(run: Mapping[str, Any]) -> None:
    """Print what `run_to_dict` returned."""
    out.print(f"[bold]{run['run']}[/]  {escape(run['name'])}  {styled_state(RunState(run['state']), run['paused'])}")
    for line in _status_lines(run):
        out.print(f"  {harmless(line)}", markup=False)
    if run["paused"]:
        out.print(harmless(run["pause_reason"]), markup=False)
    print_report(run["report"] or {})
    if run["seconds"]:
        spent = (f"{state} {duration(seconds)}" for state, seconds in run["seconds"].items())
        out.print(f"  {', '.join(spent)}", markup=False)
    table = Table("#", "time (UTC)", "event", "attributes", box=None, pad_edge=False)
    for event in run["events"]:
        when = _time(event["time"]).removesuffix(" UTC")
        table.add_row(str(event["number"]), when, event["name"], _attributes(event["attributes"]))
    out.print(table)


def styled_state(state: RunState, paused: bool, word: str = "") -> str:
    """A state with its color, as markup. ``word`` replaces the state's name."""
    style = "magenta" if paused else _STYLES.get(state, "cyan")
    return f"[{style}]{word or state.value}{' (paused)' if paused else ''}[/]"


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def print_report(report: Mapping[str, Any]) -> None:
    """Print why a run failed, or which of its inputs have no result."""
    for key in ("stage", "kind", "message", "detail", "next_step"):
        if report.get(key):
            out.print(harmless(f"  {key.replace('_', ' '):>9}: {report[key]}"), markup=False)
    for failure in report.get("failed") or ():
        named = name_inputs(dict(failure.get("inputs") or {}))
        out.print(harmless(f"     failed: {named}: {failure.get('message', '')}"), markup=False)
        for line in str(failure.get("detail") or "").splitlines():
            out.print(harmless(f"             {line}"), markup=False)
    for key, name in dict(report.get("skipped") or {}).items():
        out.print(harmless(f"  no result: {name} ({key})"), markup=False)


def _status_lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Owner and origin; of a run that has not ended also its job and its faults."""
    owner = ", ".join(_owner(run))
    accepted = f"accepted {_time(run['accepted'])}"
    yield f"{owner}; {accepted}" if owner else accepted
    active = not RunState(run["state"]).is_terminal
    attempt = next((one for one in run["attempts"] if one["number"] == run["attempt"]), None)
    if active and attempt and attempt["job_id"] is not None and not run["chunks"]:
        yield f"attempt {attempt['number']} is SLURM job {attempt['job_id']}: {_job_status(attempt['observation'])}"
    if active and run["cancel_requested"]:
        yield f"cancellation requested by {run['cancelled_by']}"
    elif active and run["faults"] and not run["paused"]:
        last = run["faults"][-1]
        retry = f"; next try at {_time(last['retry_at'])}" if last["retry_at"] else ""
        yield f"failures in a row: {len(run['faults'])}; the last: {last['message']}{retry}"
    if run["keep_folder"] and run["folder"]:
        yield f"folder on the cluster, which is not removed: {run['folder']}"
    if run["retry_of"]:
        yield f"retry of run {run['retry_of']}"
    if run["chunks"] and attempt:
        seen = attempt["observation"]
        status = seen["raw_state"] if seen else "not submitted yet"
        waiting = len(attempt["unreleased"]) if active else 0
        unsent = f", {waiting} wait for their inputs" if waiting else ""
        yield f"{run['chunks']} chunks; attempt {attempt['number']} has {len(attempt['tasks'])} tasks: {status}{unsent}"


def _owner(run: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("user", "group"):
        number, name = run[kind], (run["request"] or {}).get(f"{kind}_name")
        if name:
            yield f"{kind} {name} ({number})" if number >= 0 else f"{kind} {name}"
        elif number >= 0:
            yield f"{kind} {number}"


def _job_status(seen: Mapping[str, Any] | None) -> str:
    if seen is None:
        return "no status yet"
    status = str(seen["raw_state"] or "unknown to SLURM")
    if seen["reason"]:
        status += f" ({seen['reason']})"
    if seen["node"]:
        status += f" on {seen['node']}"
    return f"{status}, {seen['progress']}" if seen["progress"] else status


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime(TIME_FORMAT)


def _attributes(attributes: Mapping[str, Any]) -> str:
    """An event's attributes on one line, long values cut."""
    parts = []
    for name, value in attributes.items():
        if _is_empty(value):
            continue
        text = str(value)
        if isinstance(value, dict):
            text = " ".join(f"{key}={item}" for key, item in value.items() if not _is_empty(item))
        text = " ".join(text.split())
        if len(text) > ATTRIBUTE_CHARACTERS:
            text = f"{text[: ATTRIBUTE_CHARACTERS - 1]}…"
        parts.append(f"{name}={text}")
    return escape(harmless("  ".join(parts)))


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {})
