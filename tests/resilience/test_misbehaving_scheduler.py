"""A scheduler that answers nothing, too little, too late, or unknown words: no answer is never success."""

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
def test_a_run_ends_well_although_the_scheduler_misbehaves(
    world: World, queue: list[str], accounting: list[str]
) -> None:
    world.set_faults("squeue", *queue)
    world.set_faults("sacct", *accounting)
    run_id = world.accept(sleep=0.5)
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


def test_a_job_that_left_the_queue_is_not_done_while_accounting_lags(world: World) -> None:
    (world.slurm / "forgets").touch()
    world.set_faults("sacct", *["stale"] * 6)
    run_id = world.accept()
    with child.running(world):
        world.await_run(run_id)
        with world.log() as log:
            seen = [event.attributes["state"] for event in log.events(run_id) if event.name == "JobObserved"]
    assert "UNKNOWN" in seen
    assert world.check(run_id).attempt == 1


@SLOW
def test_the_end_of_an_unknown_job_is_decided_when_the_scheduler_answers_again(world: World) -> None:
    """The job is unknown beyond the deadline: its results are fetched, and wait for the scheduler's answer."""
    (world.slurm / "forgets").touch()
    world.set_faults("sacct", "*lag")
    run_id = world.accept()
    with child.running(world):
        run = world.await_run(run_id, 30, RunState.FETCHING)
        assert run.state is RunState.FETCHING
        world.clear_faults()
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_job_that_still_runs_after_the_deadline_is_waited_for(world: World) -> None:
    """The scheduler did not know the job beyond the deadline while it ran; no attempt is lost by that."""
    run_id = world.accept(sleep=6)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        world.set_faults("squeue", "*word PONDERING")
        world.set_faults("sacct", "*lag")
        world.await_run(run_id, 30, RunState.FETCHING)
        world.clear_faults()
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_job_id_that_another_job_had_before_is_not_mistaken(world: World) -> None:
    """Accounting, queried by id, reports a job from before the reset of the controller."""
    (world.slurm / "forgets").touch()
    run_id = world.accept(sleep=1)
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).report["made"] == {"file": 1}


def test_a_run_is_paused_while_the_scheduler_does_not_answer_and_continues_when_resumed(world: World) -> None:
    """After the patience the run is paused and its lease released, so that it can be resumed on any supervisor."""
    config = world.folder / "config.ini"
    config.write_text(config.read_text().replace("[WORKER]\n", "[WORKER]\nretry_hours = 0.0006\n"))
    run_id = world.accept(sleep=1)
    with child.running(world):
        world.await_run(run_id, 30, RunState.QUEUED, RunState.RUNNING)
        world.set_faults("squeue", "*down")
        world.set_faults("sacct", "*down")
        with world.log() as log:
            world.until(lambda: log.run(run_id).paused)
            assert "SLURM does not answer" in log.run(run_id).pause_reason
            world.clear_faults()
            log.resume(run_id)
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
