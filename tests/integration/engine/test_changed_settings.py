"""A supervisor uses a changed ini file without a restart, on a real cluster; an invalid file changes nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from biomeroworker.deployment.deployment import Deployment
from biomeroworker.eventlog.aggregates.states import RunState

SUPERVISE = "from biomeroworker.cli import main; main()"


@pytest.fixture
def supervisor(site, tmp_path):
    """A supervisor in a separate process, and its output."""
    log = tmp_path / "supervisor.log"
    command = [sys.executable, "-c", SUPERVISE, "supervise", "--config", str(site.config)]
    with log.open("w") as stream, subprocess.Popen(command, stderr=stream, text=True) as process:
        until(lambda: "supervising" in log.read_text())
        yield process, log
        process.terminate()
        assert process.wait(20) == 0


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def ends(site, request):
    """Accept a run with the current settings, as a script does, and wait for its end."""
    with Deployment.load(site.config) as deployment:
        run = deployment.submit(request)
        until(lambda: deployment.log.run(run).state.is_terminal, 120)
        return deployment.log.run(run)


def test_a_workflow_that_is_added_to_the_file_runs_without_a_restart(site, supervisor):
    process, log = supervisor
    before = site.config.read_text()
    later = "later = obedient\nlater_repo = " + str(site.folder / "obedient") + "\nlater_job_mem = 200M\n"
    try:
        underway = site.deployment.submit(site.request(site.images("a.tif"), sleep=8))
        until(lambda: site.deployment.log.run(underway).state is RunState.RUNNING, 60)
        site.config.write_text(before + later)
        until(lambda: log.read_text().count("supervising") == 2, 30)
        assert process.poll() is None, "the same process"
        assert ends(site, site.request(site.images("b.tif"), workflow="later")).state is RunState.DONE
        until(lambda: site.deployment.log.run(underway).state.is_terminal, 60)
        run = site.deployment.log.run(underway)
        assert run.state is RunState.DONE
        assert len(run.attempts) == 1, "the run in progress continued with its attempt"

        logged = len(log.read_text())
        site.config.write_text(before + later + "[SLURM]\nimage_pull_at_once = soon\n")
        line = site.config.read_text().count("\n")
        until(lambda: f"{site.config}:{line}: [SLURM] image_pull_at_once = 'soon'" in log.read_text()[logged:], 30)
        time.sleep(5)
        assert log.read_text()[logged:].count("image_pull_at_once") == 1, "one line"
        assert log.read_text().count("supervising") == 2
        underway = site.deployment.submit(site.request(site.images("c.tif"), workflow="later"))
        until(lambda: site.deployment.log.run(underway).state.is_terminal, 120)
        assert site.deployment.log.run(underway).state is RunState.DONE, "with the settings from before"

        site.config.write_text(before)
        until(lambda: log.read_text().count("supervising") == 3, 30)
        assert Path(f"/proc/{process.pid}").exists()
    finally:
        site.config.write_text(before)
