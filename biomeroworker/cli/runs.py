"""Commands about runs: ``runs``, ``show``, ``logs``, ``cancel``, ``resume``, ``retry``."""

from __future__ import annotations

import enum
import getpass
import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from biomeroworker.cli.common import (
    ConfigOption,
    JsonOption,
    RunArgument,
    ago,
    err,
    find_run,
    harmless,
    out,
    print_json,
)
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.errors import RequestRejected, Transient
from biomeroworker.eventlog.aggregates.records import Attempt, RunSummary
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows.attempt_folder import task_name

#: Seconds between two looks into a text that grows.
FOLLOW_INTERVAL_SECONDS = 2.0
#: How many of the inputs that failed for one cause are named; ``show --json`` has them all.
INPUTS_SHOWN = 10
TIME = "%Y-%m-%d %H:%M:%S"
#: How a state looks in a table.
STYLES = {RunState.DONE: "green", RunState.FAILED: "red", RunState.CANCELLED: "yellow"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (runs, show, logs, cancel, resume, retry):
        app.command(rich_help_panel="Runs")(command)


def runs(
    config: ConfigOption = None,
    user: Annotated[int | None, typer.Option(help="Only runs of this OMERO user id.")] = None,
    group: Annotated[int | None, typer.Option(help="Only runs in this OMERO group id.")] = None,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only runs accepted since then (UTC).")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    with Deployment.load(config) as deployment:
        when = since.replace(tzinfo=since.tzinfo or UTC) if since else None
        found = deployment.log.runs(user=user, group=group, state=state, since=when, limit=limit)
    if as_json:
        print_json([_run(run) for run in found])
        return
    table = Table("run", "name", "state", "user", "group", "accepted", "message", box=None, pad_edge=False)
    now = datetime.now(UTC)
    for run in found:
        word = f"{run.state.value} (paused)" if run.paused else run.state.value
        word = "done (partly)" if run.state is RunState.DONE and run.message else word
        style = "magenta" if run.paused else STYLES.get(run.state, "cyan")
        table.add_row(
            str(run.id)[:8],
            escape(run.name),
            f"[{style}]{word}[/]",
            str(run.user),
            str(run.group),
            ago(run.started, now),
            escape(harmless(" ".join((run.pause_reason if run.paused else run.message).split())[:100])),
        )
    out.print(table)
    if not found:
        err.print("no runs")


def show(run: RunArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one run: what was asked, where it stands, and its log event by event."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        found = deployment.log.run(run_id)
        events = deployment.log.events(run_id)
        stays = deployment.log.time_in_states(run_id)
    if as_json:
        print_json(
            {
                "run": run_id,
                "name": found.name,
                "workflow": found.workflow,
                "user": found.user,
                "group": found.group,
                "accepted": found.created_on,
                "modified": found.modified_on,
                "state": found.state.value,
                "paused": found.paused,
                "pause_reason": found.pause_reason,
                "attempt": found.attempt,
                "attempts": [_attempt(attempt) for attempt in found.attempts.values()],
                "chunks": found.chunks,
                "retry_of": found.recorded_request.retry_of,
                "job_ids": found.job_ids,
                "request": found.request,
                "outcomes": found.outcomes,
                "seconds": stays,
                "report": found.report,
                "events": [vars(event) for event in events],
            }
        )
        return
    style = "magenta" if found.paused else STYLES.get(found.state, "cyan")
    out.print(
        f"[bold]{run_id}[/]  {escape(found.name)}  [{style}]{found.state.value}{' (paused)' if found.paused else ''}[/]"
    )
    for line in _standing(found):
        out.print(f"  {harmless(line)}", markup=False)
    if earlier := found.recorded_request.retry_of:
        out.print(f"  retry of run {earlier}", markup=False)
    if found.chunks:
        tried = found.attempts[found.attempt]
        seen = tried.observation.raw_state if tried.observation else "not submitted yet"
        sent = f", {len(tried.unreleased)} still to be sent" if tried.unreleased and not found.state.is_terminal else ""
        out.print(
            f"  {found.chunks} parts; attempt {tried.number} has {len(tried.tasks)} tasks: {seen}{sent}", markup=False
        )
    if found.paused:
        out.print(harmless(found.pause_reason), markup=False)
    if found.report:
        print_report(found.report)
    if stays:
        out.print("  " + ", ".join(f"{state.value} {lasting(took)}" for state, took in stays.items()), markup=False)
    table = Table("#", "time (UTC)", "event", "what", box=None, pad_edge=False)
    for event in events:
        table.add_row(
            str(event.number), event.time.astimezone(UTC).strftime(TIME), event.name, _facts(event.attributes)
        )
    out.print(table)


def lasting(seconds: float) -> str:
    """A time as people say it: ``0.4 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _standing(run: WorkflowRun) -> Iterator[str]:
    """Whose it is, and of a run that goes on: what SLURM says of its job, and what it has met where it is."""
    request = run.recorded_request
    whose = [
        f"{kind} {name}" + f" ({number})" * (number >= 0) if name else f"{kind} {number}"
        for kind, number, name in (
            ("user", run.user, request.user_name),
            ("group", run.group, request.group_name),
        )
        if number >= 0 or name
    ]
    accepted = f"accepted {run.created_on.astimezone(UTC).strftime(TIME)} UTC"
    yield "; ".join([", ".join(whose), accepted] if whose else [accepted])
    if run.state.is_terminal:
        return
    tried = run.attempts.get(run.attempt)
    if tried is not None and tried.job_id is not None and not run.chunks:
        seen, said = tried.observation, "nothing heard of it yet"
        if seen is not None:
            facts = ((" (", seen.reason, ")"), (" on ", seen.node, ""), (", ", seen.progress, ""))
            said = seen.raw_state or "SLURM does not know it"
            said += "".join(f"{before}{fact}{after}" for before, fact, after in facts if fact)
        yield f"attempt {tried.number} is SLURM job {tried.job_id}: {said}"
    if run.cancel_requested:
        yield f"its end was asked for by {run.cancelled_by}"
    elif run.faults and not run.paused and (met := run.consecutive_faults(run.faults[-1].stage)):
        again = met[-1].retry_at
        when = f"; tried again at {again.astimezone(UTC).strftime(TIME)} UTC" if again else ""
        yield f"trouble, {len(met)} in a row: {met[-1].message}{when}"


def _run(run: RunSummary) -> dict[str, Any]:
    """A run for ``--json``, with the keys that programs know."""
    return {{"managed": "carried"}.get(name, name): value for name, value in vars(run).items()}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    """An attempt for ``--json``, with the keys that programs know."""
    keys = {"started": "begun", "preloaded": "ready", "released": "fed"}
    return {
        keys.get(name, name): sorted(value) if isinstance(value, frozenset) else value
        for name, value in vars(attempt).items()
    }


def print_report(report: Mapping[str, Any]) -> None:
    """Why a run failed, or what of it did."""
    for key in ("stage", "kind", "message", "detail", "next_step"):
        if report.get(key):
            out.print(harmless(f"  {key.replace('_', ' '):>9}: {report[key]}"), markup=False)
    for one in report.get("failed") or ():
        inputs = [f"{key} ({name})" for key, name in dict(one.get("inputs") or {}).items()]
        shown = ", ".join(inputs[:INPUTS_SHOWN]) + (
            f" and {len(inputs) - INPUTS_SHOWN} more" * (len(inputs) > INPUTS_SHOWN)
        )
        out.print(harmless(f"     failed: {shown}: {one.get('message', '')}"), markup=False)
        for line in str(one.get("detail") or "").splitlines():
            out.print(harmless(f"             {line}"), markup=False)


def _facts(attributes: Mapping[str, Any]) -> str:
    """The attributes of an event on one line, long values cut: ``show --json`` has all of them."""
    parts = []
    for name, value in attributes.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, dict):
            text = " ".join(f"{key}={item}" for key, item in value.items() if item not in (None, "", [], {}))
        else:
            text = str(value)
        text = " ".join(text.split())
        parts.append(f"{name}={text[:157] + '…' if len(text) > 160 else text}")
    return escape(harmless("  ".join(parts)))


class Stream(enum.StrEnum):
    """Which of a job's texts."""

    OUT = "out"  #: the container's stdout
    ERR = "err"  #: the container's stderr
    SLURM = "slurm"  #: what the job script says

    @property
    def file(self) -> str:
        """Its name in an attempt's folder."""
        return {Stream.OUT: "container.out", Stream.ERR: "container.err", Stream.SLURM: "slurm.out"}[self]


def logs(
    run: RunArgument,
    config: ConfigOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    stream: Annotated[
        Stream, typer.Option(help="The container's out or err, or the job script's own words.")
    ] = Stream.OUT,
    task: Annotated[
        int | None,
        typer.Option(help="Of a run that is split: which task; the first of the last attempt if not given.", min=0),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the container (or the job script) has written, read from the cluster by byte offset."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        attempt, offset, told = 0, 0, ""
        while True:
            found = deployment.log.run(run_id)
            waits = f"the run is paused: {found.pause_reason}" if found.paused else ""
            number = _attempt_of(found, task)
            if number != attempt:  # a new attempt has a text of its own
                attempt, offset = number, 0
            try:
                for part in _parts(deployment, found, _folder(deployment, found, task), stream, offset):
                    _print_part(part, attempt, offset, as_json)
                    offset += len(part)
            except (RequestRejected, Transient) as problem:
                if not follow or found.state.is_terminal:
                    raise
                waits = waits or f"{problem}; {'trying again' if isinstance(problem, Transient) else 'waiting for it'}"
            if follow and waits not in ("", told):  # else a person looks at nothing and does not know why
                err.print(harmless(waits), markup=False)
            told = waits
            if not follow or found.state.is_terminal:
                return
            time.sleep(FOLLOW_INTERVAL_SECONDS)


def _attempt_of(run: WorkflowRun, task: int | None) -> int:
    """The last attempt, of those that had the task."""
    had = [attempt.number for attempt in run.attempts.values() if task is None or task in attempt.tasks]
    if run.attempts and not had:
        whole = "is one job" if not run.chunks else f"has tasks 0 to {run.chunks - 1}"
        raise RequestRejected(f"run {run.id} has no task {task}: it {whole}")
    return max(had, default=0)


def _folder(deployment: Deployment, run: WorkflowRun, task: int | None) -> str:
    """Where on the cluster the job, or one task of it, writes; raises `RequestRejected` while that is nowhere."""
    number = _attempt_of(run, task)
    if not number:
        raise RequestRejected(f"run {run.id} has not reached the cluster")
    folder = deployment.clusters[run.cluster].attempt_folder(run.id, number)
    tasks = run.attempts[number].tasks
    return f"{folder}/{task_name(tasks[0] if task is None else task)}" if tasks else folder


def _parts(deployment: Deployment, run: WorkflowRun, folder: str, stream: Stream, offset: int) -> Iterator[bytes]:
    """What is new in a text from ``offset`` on; raises `RequestRejected` while there is no such text."""
    path = f"{folder}/{stream.file}"
    try:
        while part := deployment.clusters[run.cluster].transport.read_from(path, offset):
            offset += len(part)
            yield part
    except FileNotFoundError:
        raise RequestRejected(f"{path} is not on the cluster (yet, or not any more)") from None


def _print_part(part: bytes, attempt: int, offset: int, as_json: bool) -> None:
    """The bytes as they are; as JSON one line a part."""
    if as_json:
        print(json.dumps({"attempt": attempt, "offset": offset, "text": part.decode("utf-8", "replace")}), flush=True)
    else:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def cancel(run: RunArgument, config: ConfigOption = None) -> None:
    """Ask for a run's end: its SLURM job is cancelled too."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        found = deployment.log.run(run_id)
        if found.state.is_terminal:
            raise RequestRejected(f"run {run_id} has ended already: {found.state.value}")
        deployment.cancel(run_id, getpass.getuser())
    err.print(f"cancel requested; follow it with: biomeroworker show {str(run_id)[:8]}")


def resume(run: RunArgument, config: ConfigOption = None) -> None:
    """Let a paused run go on from the step at which it stopped."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        found = deployment.log.run(run_id)
        if not found.paused:
            raise RequestRejected(f"run {run_id} is not paused; it is {found.state.value}")
        deployment.log.resume(run_id)
    err.print(f"resumed at {found.state.value}")


def retry(
    run: RunArgument,
    config: ConfigOption = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed, of a run that is partly done.")] = False,
) -> None:
    """Hand in the request of an ended run again, as a new run; prints the new run's id."""
    with Deployment.load(config) as deployment:
        print(deployment.retry(find_run(deployment.log, run), failed=failed))
