"""Commands about the deployment: ``init``, ``doctor``, ``diagnostics``, ``config``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from biomeroworker.cli.common import ConfigOption, JsonOption, err, harmless, out, print_json
from biomeroworker.config import Settings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.diagnostics import collect
from biomeroworker.doctor import examination
from biomeroworker.errors import ConfigError

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(rich_help_panel="Deployment")(init)
    app.command(rich_help_panel="Deployment")(doctor)
    app.command(rich_help_panel="Deployment")(diagnostics)
    config = typer.Typer(help="Show the settings and their origin.", no_args_is_help=True)
    config.command("show")(config_show)
    app.add_typer(config, name="config", rich_help_panel="Deployment")


def init(config: ConfigOption = None) -> None:
    """Prepare the clusters: create folders, pull missing images of workflows and converters."""
    with Deployment.load(config) as deployment:
        prepared = deployment.provision(lambda word: err.print(word, markup=False))
    there = [outcome for outcome in prepared.outcomes if outcome.image]
    for name, fault in prepared.faults.items():
        err.print(f"{name}: {fault}", style="red", markup=False)
        if fault.hint:
            err.print(f"  {fault.hint}", markup=False)
        for line in fault.detail.splitlines():
            err.print(f"  | {line}", markup=False)
    if prepared.faults:
        err.print(f"images ready: {len(there)}; failures: {len(prepared.faults)}, listed above", markup=False)
        raise typer.Exit(1)
    err.print(f"the cluster is ready, with {len(there)} images")


def doctor(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    probe_nodes: Annotated[
        bool, typer.Option("--probe-nodes", help="Also run a small test job on each node of the partitions in use.")
    ] = False,
    deadline: Annotated[
        int, typer.Option(help="Seconds to wait for the test jobs.", min=5, max=3600)
    ] = examination.PROBE_SECONDS,
) -> None:
    """Check the deployment: print ok, warn or fail, and the setting to change. Exit code 1 if a check fails."""
    findings = []
    for finding in _examined(config, probe_nodes=probe_nodes, deadline=deadline):
        findings.append(finding)
        if not as_json:
            out.print(f"[{STYLES[finding.level]}]{finding.level:<4}[/] ", end="")
            out.print(f"{finding.subject}: {finding.message}", markup=False)
            for more in filter(None, (finding.setting, finding.remedy)):
                out.print(f"     {more}", markup=False)
    if as_json:
        print_json([vars(finding) for finding in findings])
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


def _examined(config: Path | None, *, probe_nodes: bool, deadline: int) -> Iterator[examination.Finding]:
    """The findings; for an invalid configuration only its errors."""
    try:
        deployment = Deployment.load(config)
    except ConfigError as error:
        for line in str(error).splitlines():
            where, _, message = line.partition(": ")
            setting = re.match(r"\[[^]]+\] [^\s:]+", message)
            shown = f"{where}: {setting[0]}" if setting else where
            yield examination.Finding("fail", "configuration", line, "change that line", shown)
        return
    with deployment:
        yield from deployment.doctor(probe_nodes=probe_nodes, deadline=deadline)


def diagnostics(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.tar.gz", help="The archive. Default: a new file in this folder."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="An ini file that is read after the standard files; it may be invalid."),
    ] = None,
) -> None:
    """Collect versions, settings, grid state, logs and findings of doctor for a support request, without secrets."""
    collected = collect(output, config, os.environ, progress=lambda line: err.print(harmless(line), markup=False))
    err.print(f"\n{harmless(collected.summary)}", markup=False)
    out.print(str(collected.archive), markup=False)


def config_show(
    config: ConfigOption = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Also print the file and line, or the variable, of each value.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the settings in force. Passwords are masked."""
    settings = Settings.load(config)
    shown = settings.shown()
    if as_json:
        print_json(
            {key: {"value": value, "origin": settings.origins.get(key, "default")} for key, value in shown.items()}
        )
        return
    if origin:
        out.print(f"rule: {settings.files_rule}", markup=False)
        for file in ("packaged defaults", *settings.files):
            out.print(f"read: {file}", markup=False)
        out.print()
    table = Table("setting", "value", *(["origin"] if origin else []), box=None, pad_edge=False)
    for key, value in shown.items():
        table.add_row(key, escape(value), *([settings.origins.get(key, "default")] if origin else []))
    out.print(table)
