"""A cancelled run ends soon, also while its cluster cannot be reached; its job is cancelled when it can."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from biomeroworker.deployment import folder_source
from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import PATIENCE, SLOW, World


def settled(world: World, seconds: float = 15) -> None:
    """Wait until no cancel is pending."""
    end = time.monotonic() + seconds * PATIENCE
    with world.log() as log:
        while log.pending_cancels.all():
            assert time.monotonic() < end, log.pending_cancels.all()
            time.sleep(0.1)


@pytest.mark.parametrize("state", ["away", pytest.param("hole", marks=SLOW)])
def test_a_cancel_is_delivered_when_the_cluster_is_back(world: World, state: str) -> None:
    run_id = world.accept(sleep=60)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        world.link(state)
        started = time.monotonic()
        with world.log() as log:
            log.request_cancel(run_id, "ada")
            run = world.await_run(run_id, 15)
            assert time.monotonic() - started < 12
            assert run.state is RunState.CANCELLED
            assert "cancelled by ada" in run.report["message"]
            assert "when the cluster answers" in run.report["message"]
            assert [one.name for one in log.pending_cancels.all()] == [run.attempts[1].name]
        assert world.live(run_id), "the cluster could not be reached"
        world.clear_faults()
        settled(world)
        world.check(run_id, RunState.CANCELLED)
        assert [job["state"] for job in world.jobs()] == ["CANCELLED"]


@SLOW
def test_a_pending_cancel_is_delivered_by_the_next_supervisor(world: World) -> None:
    run_id = world.accept(sleep=60)
    with child.running(world) as first:
        world.await_run(run_id, 30, RunState.RUNNING)
        world.link("away")
        with world.log() as log:
            log.request_cancel(run_id, "ada")
        world.await_run(run_id, 15)
        first.kill()
    assert world.live(run_id)
    world.clear_faults()
    with child.running(world):
        settled(world)
    world.check(run_id, RunState.CANCELLED)


@SLOW
def test_a_cancel_that_the_scheduler_ignores_is_repeated(world: World) -> None:
    run_id = world.accept(sleep=60)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        world.set_faults("scancel", "ignored", "ignored", "down")
        with world.log() as log:
            log.request_cancel(run_id, "ada")
        world.await_run(run_id, 15)
        settled(world)
    world.check(run_id, RunState.CANCELLED)


def test_a_job_that_starts_after_the_cancel_does_nothing(world: World) -> None:
    world.set_faults("sbatch", "late 3")
    run_id = world.accept()
    world.set_timing(doubt_seconds=60)
    with child.running(world):
        world.await_run(run_id, 30, RunState.SUBMITTING)
        end = time.monotonic() + 10 * PATIENCE
        while not (world.slurm / "calls").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        with world.log() as log:
            log.request_cancel(run_id, "ada")
        world.await_run(run_id, 15)
        end = time.monotonic() + 15 * PATIENCE
        while not world.jobs() or world.live(run_id):
            assert time.monotonic() < end
            time.sleep(0.1)
    world.check(run_id, RunState.CANCELLED)
    assert not (world.home / "containers").exists()


@SLOW
@pytest.mark.parametrize("fixed", [True, False])
def test_a_cancel_leaves_no_half_of_the_results(world: World, monkeypatch: pytest.MonkeyPatch, fixed: bool) -> None:
    """The cancel comes while a failed import waits for its retry: the import is retried at once, and only once."""
    tries: list[Path] = []
    publish = folder_source._publish

    def published(file: Path, target: Path) -> None:
        tries.append(target)
        if len(tries) > 1 and (len(tries) == 2 or not fixed):
            raise TimeoutError("the storage does not answer")
        publish(file, target)

    monkeypatch.setattr(folder_source, "_publish", published)
    world.set_timing(first_retry_seconds=60.0, longest_retry_seconds=60.0)
    run_id = world.accept(images=2)
    with world.log() as log:
        supervisor = world.supervisor(log)
        thread = threading.Thread(target=supervisor.serve)
        thread.start()
        world.until(lambda: bool(world.faults(run_id)))
        log.request_cancel(run_id, "ada")
        run = world.await_run(run_id, 15)
        supervisor.stop()
        thread.join()
    if fixed:
        world.check(run_id, RunState.DONE)
    else:
        assert "may be imported" in world.check(run_id, RunState.CANCELLED).report["message"]
        assert len(tries) == 3, "the import was tried once more"
    assert run.cancel_requested


@SLOW
def test_a_paused_run_that_is_cancelled_ends(world: World) -> None:
    world.set_faults("squeue", "*word PONDERING")
    world.set_faults("sacct", "*disabled")
    run_id = world.accept(sleep=60)
    with child.running(world):
        world.await_run(run_id, 30, RunState.QUEUED)
        with world.log() as log:
            log.pause(run_id, "for a test", RunState.QUEUED)
            time.sleep(0.5)
            log.request_cancel(run_id, "ada")
        world.clear_faults()
        world.await_run(run_id, 15)
    world.check(run_id, RunState.CANCELLED)
