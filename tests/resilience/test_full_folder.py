"""A data folder that is full when a job starts: the run is paused, and continues with another job when resumed."""

from __future__ import annotations

import pytest

from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import SLOW, World

#: Reports no free space to the job's preflight while the file exists; otherwise it is the real df.
DF = """#!/bin/sh
case "$1 $HOME" in -Pk*) [ ! -e "$HOME/.full" ] || { printf 'h\\nx 9 9 1 9%% /\\n'; exit 0; } ;; esac
exec /bin/df "$@"
"""


@pytest.mark.parametrize("images", [1, pytest.param(3, marks=SLOW)])
def test_a_run_whose_job_found_no_space_continues_with_another_job_after_resume(world: World, images: int) -> None:
    (world.folder / "bin/df").write_text(DF)
    (world.folder / "bin/df").chmod(0o755)
    (world.home / ".full").touch()
    run_id = world.accept(images=images, batch=1)
    with child.running(world), world.log() as log:
        world.until(lambda: log.run(run_id).paused)
        assert "are free in the data folder" in log.run(run_id).pause_reason
        (world.home / ".full").unlink()
        log.resume(run_id)
        world.until(lambda: log.run(run_id).state.is_terminal)
    run = world.check(run_id, RunState.DONE)
    assert run.attempt == 2
