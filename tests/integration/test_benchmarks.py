"""The benchmarks run, with very small sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.figures import OURS, Figures
from tests.sandbox_fixtures import CHECKOUT, Sandbox


def values(sandbox: Sandbox, *names: str) -> dict[str, str]:
    """The median of each figure of these benchmarks, measured with very small sizes on this sandbox."""
    command = [sys.executable, "-m", "benchmarks", *names, "--tiny", "--alone", "--sandbox", str(sandbox.path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if line.startswith("│")]
    return {row[1]: row[4] for row in rows}


@pytest.mark.sandbox
def test_the_benchmarks_of_event_log_and_converter_run(sandbox: Sandbox, postgres: str) -> None:
    found = values(sandbox, "events", "statements", "conversion")
    assert "events recorded" in found
    assert found["lost"] == "0"


@pytest.mark.sandbox
def test_the_benchmark_of_calls_to_the_cluster_runs(apptainer: Sandbox, postgres: str) -> None:
    found = values(apptainer, "executions")
    assert found["a job of 0 s: connections"] == "1"
    assert 1 <= int(found["a job of 0 s: commands and SFTP sessions"]) <= 10


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
