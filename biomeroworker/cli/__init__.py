"""The command line: ``biomeroworker``.

Each command only reads its arguments, calls the rest of the package, and prints. Results go to stdout (``--json`` for
machines), everything else to stderr. Exit codes: 0 done; 1 a run failed or something is wrong; 2 wrong usage.
"""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from biomeroworker import __version__
from biomeroworker.cli import deployment, runs, work
from biomeroworker.cli.common import harmless
from biomeroworker.errors import BiomeroWorkerError, Transient, classify

app = typer.Typer(
    name="biomeroworker",
    help="Carry image analysis from OMERO to a SLURM cluster and back.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Carry image analysis from OMERO to a SLURM cluster and back."""


runs.add_to(app)
work.add_to(app)
deployment.add_to(app)


def main() -> None:
    """The entry point: a fault is one clear paragraph, not a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BiomeroWorkerError as error:
        _complain(error)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        _complain(Transient(f"the log of runs: {said}", hint="it is kept where [ANALYTICS] sqlalchemy_url says"))
    except Exception as error:
        fault = classify(error)
        if str(fault).startswith(type(error).__name__) and not isinstance(error, OSError):
            raise  # a defect of ours: whoever reports it needs the traceback
        _complain(fault)


def _complain(error: BiomeroWorkerError) -> None:
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    console.print("error:", style="bold red", end=" ")
    console.print(harmless(str(error)), markup=False)
    for extra in (getattr(error, "detail", ""), getattr(error, "hint", "")):
        if extra:
            console.print(harmless(f"  {extra}"), markup=False)
    sys.exit(1)
