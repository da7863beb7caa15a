"""The benchmarks run, with very small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.figures import OURS, Figures
from tests.sandbox_fixtures import CHECKOUT, Sandbox


@pytest.mark.sandbox
def test_the_benchmarks_of_event_log_and_converter_run(sandbox: Sandbox, postgres: str) -> None:
    command = [sys.executable, "-m", "benchmarks", "events", "statements", "conversion", "--tiny", "--alone"]
    done = subprocess.run(
        [*command, "--sandbox", str(sandbox.path)], cwd=CHECKOUT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "events recorded" in done.stdout
    lost = next(line for line in done.stdout.splitlines() if "│ lost " in line)
    assert lost.split("│")[4].strip() == "0"


def test_a_repeated_benchmark_replaces_its_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Figures\n\nHow they were made.\n\n")
    for name, value in (("b", 1.0), ("a", 2.0), ("b", 3.0)):
        figures = Figures(name, "of something", "about")
        figures.add("speed", OURS, [value, value + 1], "MB/s")
        report.write_section(page, figures, {"machine": "small"})
    text = page.read_text()
    assert text.startswith("# Figures\n\nHow they were made.\n\n## a: of something\n")
    assert text.count("## b: of something") == 1
    assert f"| speed | {OURS} | 3 | 3.5 | 4 | MB/s |  |" in text
    assert "| 1 | 1.5 | 2 |" not in text
