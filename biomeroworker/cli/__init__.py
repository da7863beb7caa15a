"""The command line: ``biomeroworker``.

Each command reads its arguments, calls the rest of the package, and prints. Results go to stdout (with ``--json`` for
programs), everything else to stderr. Exit codes: 0 success; 1 a run or the command failed; 2 wrong usage.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from biomeroworker import __version__
from biomeroworker.cli import deployment, report, runs, work
from biomeroworker.cli.common import harmless
from biomeroworker.errors import BiomeroWorkerError, Transient, classify

app = typer.Typer(
    name="biomeroworker",
    help="Run image analysis workflows on a SLURM cluster, with images and results in OMERO.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Run image analysis workflows on a SLURM cluster, with images and results in OMERO."""


runs.add_to(app)
report.add_to(app)
work.add_to(app)
deployment.add_to(app)


def main() -> None:
    """The entry point. A fault is printed as one paragraph, without a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BiomeroWorkerError as error:
        _complain(error)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        _complain(Transient(f"the database cannot be used: {reason}", hint="its address is [ANALYTICS] sqlalchemy_url"))
    except Exception as error:
        fault = classify(error)
        if str(fault).startswith(type(error).__name__) and not isinstance(error, OSError):
            raise  # a defect in this program: a bug report needs the traceback
        _complain(fault)


def _complain(error: BiomeroWorkerError) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    console.print("error:", style="bold red", end=" ")
    console.print(harmless(str(error)), markup=False)
    for extra in (getattr(error, "detail", ""), getattr(error, "hint", "")):
        if extra:
            console.print(harmless(f"  {extra}"), markup=False)
    sys.exit(1)
