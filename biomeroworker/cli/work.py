"""Commands that carry runs: ``run``, ``supervise``, ``attach``."""

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
from biomeroworker.cli.runs import STYLES, print_report
from biomeroworker.cli.shutdown import graceful_shutdown
from biomeroworker.config.live import LiveSettings
from biomeroworker.deployment.deployment import Deployment
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
    workflow: Annotated[str, typer.Argument(help="Its name in the configuration.")],
    input_folder: Annotated[Path, typer.Option("--input", "-i", help="A folder of TIFF images.")],
    output_folder: Annotated[Path, typer.Option("--output", "-o", help="Where the results go; made if absent.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="NAME=VALUE, again for each parameter.")
    ] = None,
    version: Annotated[str, typer.Option(help="Of the workflow's image; the newest on the cluster if not given.")] = "",
    job_option: Annotated[
        list[str] | None, typer.Option("--job-option", help="NAME=VALUE for sbatch, as in time=01:00:00.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per task of an array job; 0: all in one job.", min=0)] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a workflow on a folder of images, without OMERO, and wait for the results."""
    request = RunRequest(
        workflow=workflow,
        version=version,
        parameters=dict(_pair(one, "--parameter") for one in parameter or ()),
        job_options=dict(_pair(one, "--job-option") for one in job_option or ()),
        source="folder",
        inputs={"folder": str(input_folder.absolute())},
        outputs={"folder": str(output_folder.absolute())},
        user_name=getpass.getuser(),
        batch_size=batch_size,
    )
    with Deployment.load(config) as deployment:
        run_id = deployment.submit(request)
        err.print(f"run {run_id}", style="bold")
        with _progress() as listener, graceful_shutdown(leave=False) as told:
            told.add_callback(lambda: deployment.cancel(run_id, getpass.getuser()))
            deployment.supervisor(listener).run_until_end(run_id)
        found = deployment.log.run(run_id)
        if as_json:
            print_json({"run": run_id, "state": found.state.value, "outcomes": found.outcomes, "report": found.report})
        else:
            summarise(found)
        if found.state is not RunState.DONE or found.report.get("failed"):
            raise typer.Exit(1)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise RequestRejected(f"{option} wants NAME=VALUE, not {text!r}")
    return name, value


def summarise(found: WorkflowRun) -> None:
    """Each stage with its time and bytes, then the end."""
    table = Table("stage", "seconds", "bytes", "what", box=None, pad_edge=False)
    for stage, outcome in found.outcomes.items():
        facts = [f"{outcome[key]} {key}" for key in ("images", "files") if key in outcome]
        if outcome.get("made"):
            facts.append(f"{len(outcome['made'])} made")
        seconds = outcome.get("seconds")
        table.add_row(
            getattr(stage, "value", str(stage)),
            "" if seconds is None else f"{seconds:.1f}",
            size(outcome["bytes"]) if "bytes" in outcome else "",
            ", ".join(facts),
        )
    out.print(table)
    out.print(f"[{STYLES.get(found.state, 'magenta')}]{found.state.value}[/]")
    print_report(found.report or {})
    if found.paused:
        out.print(found.pause_reason, markup=False)


def supervise(config: ConfigOption = None) -> None:
    """Carry all accepted runs, until stopped with SIGTERM or Ctrl-C. Starts clean after any death.

    A changed ini file takes effect within seconds; while it is invalid, the settings before it stay in force.
    """
    live = LiveSettings(config)
    with graceful_shutdown() as told, Deployment(live.settings) as deployment:
        _wait_for_log(deployment, told.event)
        supervisor = deployment.supervisor(_lines())
        told.add_callback(supervisor.stop)
        live.check = lambda settings: MaintenanceScheduler(deployment.log, deployment.clusters, settings)
        reload = Reload(live, supervisor.stop)
        err.print(f"supervising {deployment.settings.database_shown} as {supervisor.holder}", markup=False)
        supervisor.serve()
        if reload.is_due.is_set() and not told.event.is_set():
            err.print("the configuration has changed; starting again with the new settings")
            execute_again()
        err.print("stopped; runs go on from where they are at the next start")


def _wait_for_log(deployment: Deployment, stop: threading.Event) -> None:
    """Whoever starts a machine starts the database and us at the same time: it may take longer than we do."""
    for failures in itertools.count(1):
        if stop.is_set():
            return
        try:
            deployment.log.unfinished()
        except Exception as error:
            fault = classify(error)
            if not isinstance(fault, Transient):
                raise
            delay = min(2.0**failures, 30.0)
            err.print(f"the log does not answer ({fault}); asked again in {delay:.0f} s", markup=False)
            stop.wait(delay)
        else:
            return


def attach(
    host: Annotated[str, typer.Option(envvar="OMERO_HOST", help="The OMERO server.")],
    port: Annotated[int, typer.Option(envvar="OMERO_PORT")] = 4064,
    user: Annotated[
        str, typer.Option(envvar="OMERO_USER", help="Whose scripts are served; an admin's: official ones.")
    ] = "root",
    password: Annotated[str, typer.Option(envvar="OMERO_PASSWORD", help="Better in the environment.")] = "",
    config: ConfigOption = None,
) -> None:
    """Serve scripts for a running OMERO server from outside its grid, until stopped. Its grid is left untouched."""
    if not password:
        if not sys.stdin.isatty():
            raise RequestRejected(f"there is no password for {user}: put it into the environment as OMERO_PASSWORD")
        password = getpass.getpass(f"password of {user} on {host}: ")
    if config is not None:  # the scripts, which are processes of their own, read it too
        os.environ["BIOMERO_CONFIG"] = str(config.absolute())
    with graceful_shutdown() as told:
        try:  # only here: it needs Ice
            from biomeroworker.node.attach import serve
            from biomeroworker.omero.connection.session import OmeroSession
        except ModuleNotFoundError as error:
            raise RequestRejected(
                f"no Processor can be run here: {error.name} is missing; pip install biomeroworker[omero]"
            ) from None
        serve(
            lambda: OmeroSession.login(host, port, user, password),
            told.event,
            ready=lambda session: err.print(f"serving scripts of {user} on {host}:{port}", markup=False),
        )
        err.print("detached")


# -- watching ---------------------------------------------------------------------------------------------------------


@contextmanager
def _progress() -> Iterator[Listener]:
    """A live line per stage on a terminal; a plain line per stage elsewhere."""
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
    """One line per change, with the run, for a log file."""
    last: dict[UUID, tuple[str, str]] = {}

    def listen(run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        seen = last.get(run_id)
        if seen is None or seen[0] != stage.value or (fraction is None and seen[1] != word):
            print(f"{str(run_id)[:8]} {stage.value:<12} {word}", file=sys.stderr, flush=True)
        last[run_id] = (stage.value, word)
        if stage.is_terminal:
            last.pop(run_id, None)

    return listen
