# ruff: noqa: F811  fixtures by import
"""The worker's own disk is full while inputs are exported or results fetched: the run pauses, and continues later."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from biomeroworker.eventlog.aggregates.states import RunState
from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld
from tests.resilience.world import SLOW


@pytest.fixture
def small(omero_world_of) -> Iterator[OmeroWorld]:
    """A world whose work folder is a separate disk."""
    world = omero_world_of()
    work = world.folder / "work"
    work.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", work], check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield world
    subprocess.run(["umount", "-l", work], check=True)


def fill(world: OmeroWorld) -> Path:
    """Fill the disk."""
    ballast = world.folder / "work/ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    return ballast


def is_paused(world: OmeroWorld, run_id: UUID) -> bool:
    with world.log() as log:
        return log.run(run_id).paused


@SLOW
@pytest.mark.parametrize("stage", ["exporting", "fetching"])
def test_a_full_disk_pauses_the_run_which_continues_when_there_is_space(small, stage):
    run_id = small.submit(sleep=0.0 if stage == "exporting" else 3.0)
    if stage == "exporting":
        ballast = fill(small)
    with omero_world.running(small):
        if stage == "fetching":
            small.await_run(run_id, 40, RunState.RUNNING)
            ballast = fill(small)
        small.until(lambda: is_paused(small, run_id))
        with small.log() as log:
            run = log.run(run_id)
            assert run.state.value == stage
            for words in ("worker host", "no space left", "work_folder", f"resume {run_id}"):
                assert words in run.pause_reason, run.pause_reason
            ballast.unlink()
            log.resume(run_id)
        small.await_run(run_id)
    small.check(run_id)
    assert small.made() == ONE_SET
