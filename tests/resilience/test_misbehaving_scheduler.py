"""A scheduler that says nothing, too little, too late, or what nobody has heard before: silence is never success."""

from __future__ import annotations

import pytest

from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import SLOW, World


@pytest.mark.parametrize(
    ("queue", "accounting"),
    [
        (["down"] * 3, ["down"] * 3),
        pytest.param(["silent"], [], marks=SLOW),
        pytest.param([], ["*down"], marks=SLOW),
        pytest.param([], ["*disabled"], marks=SLOW),
        (["word PONDERING"] * 4, ["*lag"]),
        pytest.param(["*down"], [], marks=SLOW),
        pytest.param([], ["stale"] * 5, marks=SLOW),
    ],
    ids=["both down", "silent", "no accounting", "accounting off", "unknown word", "queue down", "accounting stale"],
)
def test_a_run_outlives_a_scheduler_that_misbehaves(world: World, queue: list[str], accounting: list[str]) -> None:
    world.goes_wrong("squeue", *queue)
    world.goes_wrong("sacct", *accounting)
    run_id = world.accept(sleep=0.5)
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


def test_a_job_that_left_the_queue_is_not_done_while_accounting_lags(world: World) -> None:
    (world.slurm / "forgets").touch()
    world.goes_wrong("sacct", *["stale"] * 6)
    run_id = world.accept()
    with child.running(world):
        world.await_run(run_id)
        with world.log() as log:
            seen = [event.attributes["state"] for event in log.events(run_id) if event.name == "JobObserved"]
    assert "UNKNOWN" in seen
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_job_that_nobody_knows_any_more_is_found_out_by_its_markers_and_the_scheduler(world: World) -> None:
    """Silence for longer than its deadline: the results are looked at, and wait for the scheduler's word."""
    (world.slurm / "forgets").touch()
    world.goes_wrong("sacct", "*lag")
    run_id = world.accept()
    with child.running(world):
        run = world.await_run(run_id, 30, RunState.FETCHING)
        assert run.state is RunState.FETCHING
        world.all_is_well()
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_job_that_lives_after_all_is_waited_for(world: World) -> None:
    """The scheduler was silent beyond the deadline while the job ran; nothing is half fetched, no budget is spent."""
    run_id = world.accept(sleep=6)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        world.goes_wrong("squeue", "*word PONDERING")
        world.goes_wrong("sacct", "*lag")
        world.await_run(run_id, 30, RunState.FETCHING)
        world.all_is_well()
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_number_that_was_another_jobs_is_not_taken_for_ours(world: World) -> None:
    """Accounting, asked by number, tells of a job from before the controller's reset."""
    (world.slurm / "forgets").touch()
    run_id = world.accept(sleep=1)
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).report["made"] == {"file": 1}


def test_a_scheduler_that_stays_silent_pauses_the_run_and_a_person_lets_it_go_on(world: World) -> None:
    """Patience is over: visible, resumable, and the lease is given back so that somebody can take it up again."""
    config = world.folder / "config.ini"
    config.write_text(config.read_text().replace("[WORKER]\n", "[WORKER]\nretry_hours = 0.0006\n"))
    run_id = world.accept(sleep=1)
    with child.running(world):
        world.await_run(run_id, 30, RunState.QUEUED, RunState.RUNNING)
        world.goes_wrong("squeue", "*down")
        world.goes_wrong("sacct", "*down")
        with world.log() as log:
            world.until(lambda: log.run(run_id).paused)
            assert "SLURM does not answer" in log.run(run_id).pause_reason
            world.all_is_well()
            log.resume(run_id)
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
