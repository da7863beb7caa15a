"""Commands about runs: ``runs``, ``show``, ``logs``, ``cancel``, ``resume``, ``retry``."""

from __future__ import annotations

import enum
import getpass
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

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
from biomeroworker.cli.run_view import print_run, run_to_dict, styled_state, summary_to_dict
from biomeroworker.deployment import run_actions
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.errors import RequestRejected, Transient
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows.attempt_folder import CONTAINER_STDERR, CONTAINER_STDOUT, STDOUT, task_name

#: Seconds between two reads of a log that still grows.
FOLLOW_INTERVAL_SECONDS = 2.0
#: Characters of a message in the list of runs; ``show`` prints all of it.
MESSAGE_CHARACTERS = 100


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (runs, show, logs, cancel, resume, retry):
        app.command(rich_help_panel="Runs")(command)


def runs(
    config: ConfigOption = None,
    user: Annotated[int | None, typer.Option(help="Only runs of this OMERO user ID.")] = None,
    group: Annotated[int | None, typer.Option(help="Only runs in this OMERO group ID.")] = None,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only runs accepted at or after this time (UTC).")] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of runs.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    with Deployment.load(config) as deployment:
        when = since.replace(tzinfo=since.tzinfo or UTC) if since else None
        found = deployment.log.runs(user=user, group=group, state=state, since=when, limit=limit)
    if as_json:
        print_json([summary_to_dict(run) for run in found])
        return
    if not found:
        err.print("no runs")
        return
    table = Table("run", "name", "state", "user", "group", "accepted", "message", box=None, pad_edge=False)
    now = datetime.now(UTC)
    for run in found:
        partly = run.state is RunState.DONE and run.message
        message = " ".join((run.pause_reason if run.paused else run.message).split())
        table.add_row(
            str(run.id)[:8],
            escape(run.name),
            styled_state(run.state, run.paused, "done (partly)" if partly else ""),
            str(run.user),
            str(run.group),
            ago(run.started, now),
            escape(harmless(message[:MESSAGE_CHARACTERS])),
        )
    out.print(table)


def show(run: RunArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one run: its state, its job, the cause of a failure, and its events."""
    with Deployment.load(config) as deployment:
        log = deployment.log
        run_id = find_run(log, run)
        facts = run_to_dict(log.run(run_id), log.events(run_id), log.time_in_states(run_id))
    if as_json:
        print_json(facts)
    else:
        print_run(facts)


class Stream(enum.StrEnum):
    """One of the outputs of a job."""

    OUT = "out"  #: stdout of the container
    ERR = "err"  #: stderr of the container
    SLURM = "slurm"  #: output of the job script

    @property
    def file(self) -> str:
        """The name of the file in the folder of an attempt or task."""
        return {Stream.OUT: CONTAINER_STDOUT, Stream.ERR: CONTAINER_STDERR, Stream.SLURM: STDOUT}[self]


def logs(
    run: RunArgument,
    config: ConfigOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue to print until the run has ended.")] = False,
    stream: Annotated[
        Stream, typer.Option(help="Stdout or stderr of the container, or the output of the job script.")
    ] = Stream.OUT,
    task: Annotated[
        int | None,
        typer.Option(help="For a run in chunks: the task number. Default: the first task of the last attempt.", min=0),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the output of the container or of the job script, read from the cluster."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        attempt, offset, printed = 0, 0, ""
        while True:
            found = deployment.log.run(run_id)
            waiting = f"the run is paused: {found.pause_reason}" if found.paused else ""
            number = _attempt_of(found, task)
            if number != attempt:  # each attempt has its own files
                attempt, offset = number, 0
            try:
                for part in _parts(deployment, found, _folder(deployment, found, task), stream, offset):
                    _print_part(part, attempt, offset, as_json)
                    offset += len(part)
            except (RequestRejected, Transient) as problem:
                if not follow or found.state.is_terminal:
                    raise
                next_step = "trying again" if isinstance(problem, Transient) else "waiting for it"
                waiting = waiting or f"{problem}; {next_step}"
            if waiting not in ("", printed) and follow:  # explain why nothing is printed, once for each reason
                err.print(harmless(waiting), markup=False)
            printed = waiting
            if not follow or found.state.is_terminal:
                return
            time.sleep(FOLLOW_INTERVAL_SECONDS)


def _attempt_of(run: WorkflowRun, task: int | None) -> int:
    """The number of the last attempt that has the task; 0 if there is no attempt yet."""
    numbers = [attempt.number for attempt in run.attempts.values() if task is None or task in attempt.tasks]
    if run.attempts and not numbers:
        tasks = f"has tasks 0 to {run.chunks - 1}" if run.chunks else "is one job without tasks"
        raise RequestRejected(f"run {run.id} has no task {task}: it {tasks}")
    return max(numbers, default=0)


def _folder(deployment: Deployment, run: WorkflowRun, task: int | None) -> str:
    """The folder on the cluster with the output of the job or of one task.

    Raises `RequestRejected` if nothing has been submitted yet.
    """
    number = _attempt_of(run, task)
    if not number:
        raise RequestRejected(f"run {run.id} has no job on the cluster, so there is no output")
    folder = deployment.clusters[run.cluster].attempt_folder(run.id, number)
    tasks = run.attempts[number].tasks
    return f"{folder}/{task_name(tasks[0] if task is None else task)}" if tasks else folder


def _parts(deployment: Deployment, run: WorkflowRun, folder: str, stream: Stream, offset: int) -> Iterator[bytes]:
    """The bytes of a file from ``offset`` on; raises `RequestRejected` if there is no such file."""
    path = f"{folder}/{stream.file}"
    try:
        while part := deployment.clusters[run.cluster].transport.read_from(path, offset):
            offset += len(part)
            yield part
    except FileNotFoundError:
        raise RequestRejected(f"{path} is not on the cluster: not written yet, or already removed") from None


def _print_part(part: bytes, attempt: int, offset: int, as_json: bool) -> None:
    """Print the bytes unchanged, or one line of JSON."""
    if as_json:
        print(json.dumps({"attempt": attempt, "offset": offset, "text": part.decode("utf-8", "replace")}), flush=True)
    else:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()


def cancel(run: RunArgument, config: ConfigOption = None) -> None:
    """Cancel a run and its SLURM job."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        run_actions.cancel(deployment.log, deployment.log.run(run_id), getpass.getuser())
    err.print(f"cancellation requested; check it with: biomeroworker show {str(run_id)[:8]}")


def resume(run: RunArgument, config: ConfigOption = None) -> None:
    """Continue a paused run at the step where it stopped."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        found = deployment.log.run(run_id)
        run_actions.resume(deployment.log, found)
    err.print(f"resumed at {found.state.value}")


def retry(
    run: RunArgument,
    config: ConfigOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only the inputs without a result: failed or skipped.")
    ] = False,
) -> None:
    """Start a new run with the request of a run that has ended. Prints the ID of the new run."""
    with Deployment.load(config) as deployment:
        print(deployment.retry(find_run(deployment.log, run), failed=failed))
