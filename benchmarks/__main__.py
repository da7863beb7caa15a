"""``python -m benchmarks [NAME …]``: measure, print and save."""

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
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; default: all")
    parser.add_argument(
        "--tiny", action="store_true", help="very small sizes, to test that the benchmarks run; ignore the figures"
    )
    parser.add_argument("--alone", action="store_true", help="do not measure the incumbent")
    parser.add_argument("--repeats", type=int, default=3, help="number of measurements of each (3)")
    parser.add_argument(
        "--fraction", type=float, default=1.0, help="fraction of the data size, for a machine with less disk space"
    )
    parser.add_argument("--keep", action="store_true", help=f"write the figures into {PAGE.name}")
    parser.add_argument("--sandbox", type=Path, help="use the sandbox in this folder, and do not stop it")
    parser.add_argument("--folder", type=Path, help="working folder; some benchmarks write several GB")
    return parser


def main() -> int:
    """Run the selected benchmarks."""
    options = _parser().parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    names = options.names or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        console.print(f"no such benchmark: {', '.join(unknown)}; choose from {', '.join(NAMES)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # run the cleanup after SIGTERM, too
    place = options.folder or "/tmp"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=place, ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the sandbox's accounts need access
        sandbox = options.sandbox or Path(folder) / "sbx"
        context = Context(
            Path(folder), sandbox, console, options.tiny, options.repeats, options.alone, options.fraction
        )
        try:
            for name in names:
                context.loads.clear()
                figures = importlib.import_module(f"benchmarks.{name}").measure(context)
                conditions = context.conditions()
                report.show(figures, console)
                if options.tiny:
                    continue
                RESULTS.mkdir(exist_ok=True)
                (RESULTS / f"{name}.json").write_text(report.as_json(figures, conditions))
                (RESULTS / f"{name}.md").write_text(report.as_markdown(figures, conditions))
                if options.keep:
                    report.write_section(PAGE, figures, conditions)
        finally:
            if options.sandbox is None and sandbox.exists():
                down = [sys.executable, "-m", "sandbox", "down", "--purge", "--root", str(sandbox)]
                subprocess.run(down, cwd=CHECKOUT, capture_output=True, timeout=120)
                shutil.rmtree(sandbox, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
