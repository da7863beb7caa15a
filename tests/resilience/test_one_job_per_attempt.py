"""At most one job per attempt, whatever sbatch answers and however many supervisors there are."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from biomeroworker.eventlog.aggregates.states import TERMINAL
from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import PATIENCE, SLOW, World


def calls(world: World) -> list[str]:
    """How sbatch behaved at each call."""
    return (world.slurm / "calls").read_text().split()


@pytest.mark.parametrize(("word", "delay"), [("accepted-timeout", 0.0), pytest.param("killed", 4.0, marks=SLOW)])
def test_a_job_that_sbatch_submitted_without_an_answer_is_adopted(world: World, word: str, delay: float) -> None:
    """Also a job that waits longer than the time of doubt: only the scheduler knows it then."""
    if delay:
        (world.slurm / "delay").write_text(str(delay))
    world.set_faults("sbatch", word)
    run_id = world.accept()
    with child.running(world):
        world.await_run(run_id)
    run = world.check(run_id)
    assert run.attempt == 1
    assert len(calls(world)) == 1


@SLOW
def test_an_sbatch_that_never_answers_times_out_and_its_job_is_adopted(world: World) -> None:
    world.set_faults("sbatch", "silent")
    run_id = world.accept()
    world.set_timing(doubt_seconds=20)
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
    assert len(calls(world)) == 1


@SLOW
def test_a_job_that_never_appears_is_waited_for_and_then_replaced_by_a_new_attempt(world: World) -> None:
    world.set_faults("sbatch", "timeout")
    run_id = world.accept()
    started = time.monotonic()
    world.set_timing(doubt_seconds=2)
    with child.running(world):
        world.await_run(run_id)
    assert time.monotonic() - started > 2
    assert world.check(run_id).attempt == 2
    assert calls(world) == ["timeout", "ok"]


def test_a_job_that_starts_after_its_attempt_was_abandoned_does_nothing(world: World) -> None:
    world.set_faults("sbatch", "late 5")
    run_id = world.accept()
    world.set_timing(doubt_seconds=1)
    with child.running(world):
        world.await_run(run_id)
    run = world.check(run_id)
    assert run.attempt == 2
    late = run.attempts[1].name
    end = time.monotonic() + 20 * PATIENCE
    while not any(job["name"] == late and job["state"] == "FAILED" for job in world.jobs()):
        assert time.monotonic() < end, world.jobs()
        time.sleep(0.1)
    (job,) = [job for job in world.jobs() if job["name"] == late]
    assert job["code"] == 81
    world.check(run_id)
    assert len((world.home / "containers").read_text().splitlines()) == 1


def test_a_second_job_of_an_attempt_that_is_submitted_by_hand_does_nothing(world: World) -> None:
    run_id = world.accept(sleep=2)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        folder = world.home / f"data/biomero_{run_id}/attempt-1"
        (world.folder / "other").mkdir()
        by_hand = f"HOME={world.home} {world.folder}/bin/sbatch --job-name=by-hand --output={world.folder}/other/out"
        assert os.system(f"{by_hand} --chdir={folder} {folder}/job.sh {folder} >/dev/null") == 0
        world.await_run(run_id)
    world.check(run_id)
    (other,) = [job for job in world.jobs() if job["name"] == "by-hand"]
    assert (other["state"], other["code"]) == ("FAILED", 81)


@SLOW
def test_a_job_that_is_requeued_starts_again(world: World) -> None:
    run_id = world.accept(sleep=1)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        (job,) = world.jobs()
        world.requeue(job)
        run = world.await_run(run_id)
    assert run.state is RunState.DONE, run.report
    assert run.attempt == 1


@pytest.mark.parametrize("word", ["limit", pytest.param("rate", marks=SLOW), pytest.param("down", marks=SLOW)])
def test_a_temporary_refusal_is_retried_in_the_same_attempt(world: World, word: str) -> None:
    world.set_faults("sbatch", word, word, word)
    run_id = world.accept()
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1
    assert calls(world) == [word, word, word, "ok"]


@SLOW
def test_a_permanent_refusal_ends_the_run(world: World) -> None:
    world.set_faults("sbatch", "partition")
    run_id = world.accept()
    with child.running(world):
        world.await_run(run_id)
    assert "partition" in world.check(run_id, RunState.FAILED).report["message"]
    assert world.jobs() == []


def test_a_supervisor_that_was_suspended_before_its_sbatch_does_not_submit_a_second_job(world: World) -> None:
    """It is suspended for longer than its lease, another supervisor submits the job, then it continues."""
    (world.slurm / "delay").write_text("3")  # the job waits in the queue: only the claim shows that it exists
    run_id = world.accept()
    first = child.start(world, pause_at_submit=True)
    assert first.pid
    world.await_run(run_id, 30, RunState.SUBMITTING)
    state = Path(f"/proc/{first.pid}/stat")
    world.until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
    with child.running(world):
        world.await_run(run_id, 30, RunState.QUEUED)
        os.kill(first.pid, signal.SIGCONT)
        world.await_run(run_id)
    child.stop(first)
    world.check(run_id)
    assert calls(world) == ["ok"]


@SLOW
def test_a_supervisor_that_is_suspended_repeatedly_harms_no_run(world: World) -> None:
    runs = [world.accept(sleep=0.5) for _ in range(3)]
    with child.running(world) as first, child.running(world):
        assert first.pid
        end = time.monotonic() + 40 * PATIENCE
        while any(world.await_run(run_id, 1, *RunState).state not in TERMINAL for run_id in runs):
            assert time.monotonic() < end
            os.kill(first.pid, signal.SIGSTOP)
            time.sleep(1.4)
            os.kill(first.pid, signal.SIGCONT)
            time.sleep(0.3)
    for run_id in runs:
        world.check(run_id)


def test_two_supervisors_execute_the_runs_of_six_submitters_once(world: World) -> None:
    accepted: list[object] = []

    def submit() -> None:
        for _ in range(2):
            accepted.append(world.accept())

    threads = [threading.Thread(target=submit) for _ in range(6)]
    with child.running(world), child.running(world):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run_id in accepted:
            world.await_run(run_id, 60)  # type: ignore[arg-type]
    for run_id in accepted:
        world.check(run_id)  # type: ignore[arg-type]
    assert len(accepted) == 12
    assert max(Counter(job["name"] for job in world.jobs()).values()) == 1
