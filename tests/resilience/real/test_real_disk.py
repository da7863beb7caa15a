"""The data folder runs full, before a transfer, during it, and under a job: nothing is lost, and the run reports it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from biomeroworker.eventlog.runlog import RunState
from tests.links import Line
from tests.resilience.real.deployment import FILLS_THE_DISK, RealWorld
from tests.resilience.world import SLOW

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(400)]

#: Megabytes: what the job script wants to have free before it begins, and a little.
JOBS_NEED = 1024 + 16


class Disk:
    """A small file system on the cluster."""

    def __init__(self, folder: Path, account: os.stat_result) -> None:
        self.folder = folder
        folder.mkdir()
        self._mount(f"size=8m,mode=0755,uid={account.st_uid},gid={account.st_gid}", "-t", "tmpfs", "tmpfs")

    def grow(self, megabytes: int) -> None:
        """Add space, as an administrator would."""
        self._mount(f"remount,size={megabytes}m")

    def fill(self) -> Path:
        """Fill the rest of the space with a file of another user; return the file."""
        file = self.folder / "file-of-another-user"
        subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=64k"], capture_output=True, check=False)
        return file

    def _mount(self, options: str, *what: str) -> None:
        subprocess.run(["mount", "-o", options, *what, str(self.folder)], check=True, capture_output=True)

    def close(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.folder.rmdir()


@pytest.fixture
def disk(cluster: Any) -> Iterator[Disk]:
    home = Path(cluster.env["CLUSTER_HOME"])
    folder = home / f"disk-{os.urandom(3).hex()}"
    try:
        made = Disk(folder, home.stat())
    except subprocess.CalledProcessError as refusal:
        pytest.skip(f"no file system can be mounted here: {refusal.stderr.decode().strip()}")
    yield made
    made.close()


def paused(world: RealWorld, run_id: Any) -> str:
    """Wait until a run is paused; why."""
    with world.log() as log:
        world.until(lambda: log.run(run_id).paused or log.run(run_id).state.is_terminal, 90)
        run = log.run(run_id)
    assert run.paused, run.report
    return run.pause_reason


def resume(world: RealWorld, run_id: Any) -> None:
    with world.log() as log:
        log.resume(run_id)


@SLOW
def test_a_run_that_does_not_fit_is_paused_before_anything_is_sent(
    new_world: Callable[..., RealWorld], disk: Disk
) -> None:
    world = new_world(data=str(disk.folder), options="free_space_gb = 0.001")
    run_id = world.accept_large(9_000_000)
    with world.supervised():
        reason = paused(world, run_id)
        assert "free of 8.4 MB" in reason
        assert "biomeroworker resume" in reason
        assert not list(disk.folder.glob("biomero_*/in")), "something was sent"
        disk.grow(JOBS_NEED + 32)
        resume(world, run_id)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_disk_that_runs_full_during_a_transfer_pauses_the_run(
    new_world: Callable[..., RealWorld], disk: Disk, ssh_line: tuple[Line, Path]
) -> None:
    line, config = ssh_line
    world = new_world(data=str(disk.folder), options="free_space_gb = 0", ssh_config=config)
    line.rate = 1_000_000
    run_id = world.accept_large(4_000_000)
    with world.supervised():
        world.await_run(run_id, 60, RunState.TRANSFERRING)
        start = line.passed
        world.until(lambda: line.passed > start + 1_000_000)
        taken = disk.fill()
        reason = paused(world, run_id)
        assert "no room on the cluster" in reason
        assert "No space left on device" in reason
        taken.unlink()
        disk.grow(JOBS_NEED + 32)
        line.restore()
        resume(world, run_id)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1
    assert len(world.starts(run_id)) == 1


@SLOW
def test_a_job_that_finds_no_room_pauses_the_run(new_world: Callable[..., RealWorld], disk: Disk) -> None:
    disk.grow(16)  # the inputs fit, a job does not begin
    world = new_world(data=str(disk.folder), options="free_space_gb = 0")
    run_id = world.accept()
    with world.supervised():
        assert "are free in the data folder" in paused(world, run_id)
        disk.grow(JOBS_NEED + 32)
        with world.log() as log:
            log.resume(run_id)
        world.await_run(run_id, 120)
    world.check(run_id)
    assert len(world.starts(run_id)) == 1


@SLOW
def test_a_full_disk_is_distinguished_from_a_failed_job(new_world: Callable[..., RealWorld], disk: Disk) -> None:
    """The container ended because no write was possible any more, and the job could not even record that."""
    disk.grow(JOBS_NEED + 32)
    world = new_world(data=str(disk.folder), options="free_space_gb = 0\nsbatch_mem = 2000M")
    run_id = world.accept(sleep=FILLS_THE_DISK)
    with world.supervised(), world.log() as log:
        world.until(lambda: log.run(run_id).paused or log.run(run_id).state.is_terminal, 180)
        run = log.run(run_id)
    assert run.paused, run.report
    reason = run.pause_reason
    assert "No space left on device" in reason or "data folder" in reason, reason
    assert "free space" in reason


# -- the worker's own --------------------------------------------------------------------------------------------------


@SLOW
def test_a_worker_without_room_for_an_export_waits_for_a_person(
    new_world: Callable[..., RealWorld], disk: Disk
) -> None:
    world = new_world(work=str(disk.folder))
    run_id = world.accept_large(9_000_000)
    with world.supervised():
        reason = paused(world, run_id)
        assert "worker host: no space left" in reason
        disk.grow(64)
        resume(world, run_id)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_worker_without_room_for_the_results_waits_for_a_person(
    new_world: Callable[..., RealWorld], disk: Disk
) -> None:
    world = new_world(work=str(disk.folder))
    run_id = world.accept(sleep=2)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        taken = disk.fill()
        assert "worker host: no space left" in paused(world, run_id)
        taken.unlink()
        resume(world, run_id)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1
    assert len(world.starts(run_id)) == 1
