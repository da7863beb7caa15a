"""The command ``report``: write the report of a run, and open it in a browser."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from biomeroworker.cli.common import ConfigOption, RunArgument, err, find_run
from biomeroworker.deployment.deployment import Deployment


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel="Runs")(report)


def report(
    run: RunArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the page to this file; - is stdout. Default: a temporary file."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Write the report of a run as an HTML page, and open it in a browser. Prints the path of the file."""
    with Deployment.load(config) as deployment:
        run_id = find_run(deployment.log, run)
        page = deployment.report(run_id)
    if output == Path("-"):
        sys.stdout.buffer.write(page)
        return
    if output is not None:
        output.write_bytes(page)
        print(output)
        return
    folder = Path(tempfile.mkdtemp(prefix="biomeroworker-report-"))
    file = folder / f"run-report-{str(run_id)[:8]}.html"
    file.write_bytes(page)
    print(file)
    if not _open_browser(file):
        err.print("there is no browser here: copy the file to a computer that has one")


def _open_browser(file: Path) -> bool:
    """Open the page, unless the only browser is one for a terminal; return whether it was opened."""
    if sys.platform != "darwin" and not any(map(os.environ.get, ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))):
        return False
    try:
        return webbrowser.open(file.as_uri())
    except webbrowser.Error:
        return False
