"""``python -m benchmarks [NAME …]``: measure, show, and write down."""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import report
from benchmarks.context import CHECKOUT, Context

#: In the order in which they run.
NAMES = ("events", "statements", "history", "supervisor", "transfer", "executions", "conversion", "plate")
RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).with_name("RESULTS.md")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all if none is given")
    parser.add_argument("--tiny", action="store_true", help="only see that they run; the figures mean nothing")
    parser.add_argument("--alone", action="store_true", help="without the incumbent")
    parser.add_argument("--repeats", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="of the size of trees, for a machine with less room"
    )
    parser.add_argument("--keep", action="store_true", help=f"put the figures into {PAGE.name}")
    parser.add_argument("--sandbox", type=Path, help="use the sandbox in this folder and leave it running")
    parser.add_argument("--folder", type=Path, help="where to work; some benchmarks write several GB")
    return parser


def main() -> int:
    """Run the benchmarks that are asked for."""
    options = _parser().parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    names = options.names or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        console.print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended, then too
    place = options.folder or "/tmp"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the sandbox's accounts walk through it
        sandbox = options.sandbox or Path(folder) / "sbx"
        context = Context(
            Path(folder), sandbox, console, options.tiny, options.repeats, options.alone, options.fraction
        )
        try:
            for name in names:
                context.loads.clear()
                figures = importlib.import_module(f"benchmarks.{name}").measure(context)
                surroundings = context.surroundings()
                report.show(figures, console)
                if options.tiny:
                    continue
                RESULTS.mkdir(exist_ok=True)
                (RESULTS / f"{name}.json").write_text(report.as_json(figures, surroundings))
                (RESULTS / f"{name}.md").write_text(report.as_markdown(figures, surroundings))
                if options.keep:
                    report.keep(PAGE, figures, surroundings)
        finally:
            if options.sandbox is None and sandbox.exists():
                down = [sys.executable, "-m", "sandbox", "down", "--purge", "--root", str(sandbox)]
                subprocess.run(down, cwd=CHECKOUT, capture_output=True, timeout=120)
                shutil.rmtree(sandbox, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
