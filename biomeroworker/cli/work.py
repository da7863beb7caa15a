"""Commands that execute runs and scripts: ``run``, ``supervise``, ``attach``."""

from __future__ import annotations

import getpass
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from biomeroworker.cli.common import ConfigOption, JsonOption, err, out, print_json, size
from biomeroworker.cli.reload import Reload, execute_again
from biomeroworker.cli.run_view import print_report, styled_state
from biomeroworker.cli.shutdown import graceful_shutdown
from biomeroworker.config.live import LiveSettings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.engine.steps.context import Listener
from biomeroworker.errors import RequestRejected, Transient, classify
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import WorkflowRun


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (run, supervise, attach):
        app.command(rich_help_panel="Work")(command)


def run(
    workflow: Annotated[str, typer.Argument(help="The name of the workflow in [WORKFLOWS].")],
    input_folder: Annotated[Path, typer.Option("--input", "-i", help="The folder with the TIFF images.")],
    output_folder: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the results; created if it does not exist.")
    ],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            help="NAME=VALUE; repeat the option for each parameter. For a file parameter, the path of a file.",
        ),
    ] = None,
    version: Annotated[
        str, typer.Option(help="Version of the workflow's image. Default: the newest on the cluster.")
    ] = "",
    job_option: Annotated[
        list[str] | None, typer.Option("--job-option", help="NAME=VALUE for sbatch, such as time=01:00:00.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Images per task of a job array. 0: all images in one job.", min=0)
    ] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a workflow on a folder of images, without OMERO, and wait for the results. Ctrl-C cancels the run."""
    pairs = [_pair(one, "--parameter") for one in parameter or ()]
    request = RunRequest(
        workflow=workflow,
        version=version,
        parameters=dict(pairs),
        job_options=dict(_pair(one, "--job-option") for one in job_option or ()),
        source="folder",
        inputs={"folder": str(input_folder.absolute())},
        outputs={"folder": str(output_folder.absolute())},
        user_name=getpass.getuser(),
        batch_size=batch_size,
    )
    with Deployment.load(config) as deployment:
        run_id = deployment.submit(_with_files(request, pairs, deployment))
        err.print(f"run {run_id}", style="bold")
        with _progress() as listener, graceful_shutdown(leave=False) as shutdown:
            shutdown.add_callback(lambda: deployment.cancel(run_id, getpass.getuser()))
            deployment.supervisor(listener).run_until_end(run_id)
        found = deployment.log.run(run_id)
        if as_json:
            print_json({"run": run_id, "state": found.state.value, "outcomes": found.outcomes, "report": found.report})
        else:
            summarise(found)
        if found.state is not RunState.DONE or found.without_result:
            raise typer.Exit(1)


def _with_files(request: RunRequest, pairs: list[tuple[str, str]], deployment: Deployment) -> RunRequest:
    """The request with the values of file parameters as files; the paths are relative to the current folder."""
    try:
        described = deployment.catalogue.get(request.workflow)
    except RequestRejected:  # the run ends with this error, which is recorded
        return request
    names = {one.id for one in described.parameters if one.file_attachment}
    files: dict[str, tuple[int | str, ...]] = {}
    for name, path in pairs:
        if name in names:
            files[name] = (*files.get(name, ()), str(Path(path).expanduser().absolute()))
    others = {name: value for name, value in request.parameters.items() if name not in files}
    return request.model_copy(update={"files": files, "parameters": others})


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RequestRejected(f"{option} {text!r}: write NAME=VALUE")
    return name, value


def summarise(found: WorkflowRun) -> None:
    """Print the time and the transferred bytes of each stage, then the final state."""
    table = Table("stage", "seconds", "bytes", "contents", box=None, pad_edge=False)
    for stage, outcome in found.outcomes.items():
        facts = [f"{outcome[key]} {key}" for key in ("images", "files") if key in outcome]
        if outcome.get("made"):
            facts.append(f"{len(outcome['made'])} results")
        seconds = outcome.get("seconds")
        table.add_row(
            getattr(stage, "value", str(stage)),
            "" if seconds is None else f"{seconds:.1f}",
            size(outcome["bytes"]) if "bytes" in outcome else "",
            ", ".join(facts),
        )
    out.print(table)
    out.print(styled_state(found.state, found.paused))
    print_report(found.report or {})
    if found.paused:
        out.print(found.pause_reason, markup=False)


def supervise(config: ConfigOption = None) -> None:
    """Execute all accepted runs, until stopped with SIGTERM or Ctrl-C. After a crash, start it again.

    A changed ini file takes effect within seconds. While it is invalid, the previous settings stay in force.
    """
    live = LiveSettings(config)
    with graceful_shutdown() as shutdown, Deployment(live.settings) as deployment:
        _wait_for_log(deployment, shutdown.event)
        supervisor = deployment.supervisor(_lines())
        shutdown.add_callback(supervisor.stop)
        live.check = lambda settings: MaintenanceScheduler(deployment.log, deployment.clusters, settings)
        reload = Reload(live, supervisor.stop)
        err.print(f"supervising {deployment.settings.database_shown} as {supervisor.holder}", markup=False)
        supervisor.serve()
        if reload.is_due.is_set() and not shutdown.event.is_set():
            err.print("the configuration has changed; restarting with the new settings")
            execute_again()
        err.print("stopped; the next start continues all runs where they are")


def _wait_for_log(deployment: Deployment, stop: threading.Event) -> None:
    """Wait for the database, which often starts at the same time as this program and needs longer."""
    for failures in itertools.count(1):
        if stop.is_set():
            return
        try:
            deployment.log.unfinished()
        except Exception as error:
            fault = classify(error)
            if not isinstance(fault, Transient):
                raise
            delay = backoff_delay(failures, first=2.0, longest=30.0)
            err.print(f"the database does not answer ({fault}); next try in {delay:.0f} s", markup=False)
            stop.wait(delay)
        else:
            return


def attach(
    host: Annotated[str, typer.Option(envvar="OMERO_HOST", help="The OMERO server.")],
    port: Annotated[int, typer.Option(envvar="OMERO_PORT", help="Its port.")] = 4064,
    user: Annotated[
        str,
        typer.Option(envvar="OMERO_USER", help="Serve the scripts of this user; for an admin, the official scripts."),
    ] = "root",
    password: Annotated[
        str,
        typer.Option(envvar="OMERO_PASSWORD", help="Prefer the variable: other users can see options."),
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Execute the scripts of a running OMERO server from outside its grid, until stopped. The grid is not changed."""
    if not password:
        if not sys.stdin.isatty():
            raise RequestRejected(f"no password for {user}: set the environment variable OMERO_PASSWORD")
        password = getpass.getpass(f"password of {user} on {host}: ")
    if config is not None:  # for the processes of the scripts
        os.environ["BIOMERO_CONFIG"] = str(config.absolute())
    with graceful_shutdown() as shutdown:
        try:  # imported here because only this command needs Ice
            from biomeroworker.node.attach import serve
            from biomeroworker.omero.connection.session import OmeroSession
        except ModuleNotFoundError as error:
            raise RequestRejected(
                f"the Python package {error.name} is missing; install it with: pip install biomeroworker[omero]"
            ) from None
        serve(
            lambda: OmeroSession.login(host, port, user, password),
            shutdown.event,
            ready=lambda session: err.print(f"executing the scripts of {user} on {host}:{port}", markup=False),
        )
        err.print("detached")


# -- progress ---------------------------------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Listener]:
    """A live line for each stage on a terminal, otherwise plain lines."""
    if not err.is_terminal:
        yield _plain_lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[stage]:<12}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[RunState, Any] = {}

        def listen(run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
            if stage not in tasks:
                for earlier in tasks.values():
                    bars.update(earlier, total=1, completed=1)
                tasks[stage] = bars.add_task("", total=None, stage=stage.value)
            bars.update(
                tasks[stage],
                description=word.replace("[", r"\["),
                total=1 if fraction is not None else None,
                completed=fraction or 0,
            )

        yield listen


def _plain_lines() -> Listener:
    last: dict[str, str] = {}

    def listen(run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        line = f"{stage.value:<12} {word}"
        if last.get("stage") != stage.value or (fraction is None and last.get("line") != line):
            print(line, file=sys.stderr, flush=True)
        last.update(stage=stage.value, line=line)

    return listen


def _lines() -> Listener:
    """One line for each change, with the run's ID, for a log file."""
    last: dict[UUID, tuple[str, str]] = {}

    def listen(run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        seen = last.get(run_id)
        if seen is None or seen[0] != stage.value or (fraction is None and seen[1] != word):
            print(f"{str(run_id)[:8]} {stage.value:<12} {word}", file=sys.stderr, flush=True)
        last[run_id] = (stage.value, word)
        if stage.is_terminal:
            last.pop(run_id, None)

    return listen
