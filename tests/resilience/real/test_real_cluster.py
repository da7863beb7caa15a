"""Faults of clusters, caused on a real one while it executes a run: the run ends exactly once, with the right state."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from biomeroworker.eventlog.runlog import RunState
from sandbox.parts.slurm import Slurmctld, Slurmdbd
from tests.resilience.real.deployment import EATS_MEMORY, KEEPS_A_CORE_BUSY, Admin, RealWorld, forgotten_by_the_queue
from tests.resilience.world import SLOW

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(400)]

#: The whole cluster, whatever its jobs are.
EVERYTHING = ("--nodes=2", "--exclusive", "--mem=0")

#: What a site without slurmdbd has in its slurm.conf.
NO_ACCOUNTING = {"AccountingStorageType": "accounting_storage/none", "AccountingStorageTRES": ""}


# -- daemons -----------------------------------------------------------------------------------------------------------


def test_the_controller_is_restarted_while_a_job_runs(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(sleep=3)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        admin.stop(Slurmctld)
        time.sleep(1)  # the job continues meanwhile
        admin.start(Slurmctld)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1
    assert len(world.starts(run_id)) == 1


@SLOW
def test_the_controller_is_away_until_long_after_the_job_has_ended(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(sleep=2)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        admin.stop(Slurmctld)
        time.sleep(12)
        admin.start(Slurmctld)
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1


@SLOW
def test_the_controller_is_away_when_the_job_is_to_be_submitted(world: RealWorld, admin: Admin) -> None:
    admin.stop(Slurmctld)
    run_id = world.accept()
    with world.supervised():
        world.await_run(run_id, 60, RunState.SUBMITTING)
        time.sleep(3)
        admin.start(Slurmctld)
        world.await_run(run_id, 180)
    world.check(run_id)
    assert len(world.starts(run_id)) == 1


@SLOW
def test_accounting_is_away_for_a_while(world: RealWorld, admin: Admin) -> None:
    run_id, other = world.accept(sleep=2), world.accept(sleep=8)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        admin.stop(Slurmdbd)
        world.await_run(run_id, 120)
        admin.start(Slurmdbd)
        world.await_run(other, 120)
    assert world.check(run_id).attempt == 1
    assert world.check(other).attempt == 1


# -- how jobs end ------------------------------------------------------------------------------------------------------


@SLOW
def test_a_job_that_runs_out_of_memory_fails_with_that_cause(world: RealWorld) -> None:
    run_id = world.accept(sleep=EATS_MEMORY)
    with world.supervised():
        world.await_run(run_id, 120)
    report = world.check(run_id, RunState.FAILED).report
    assert "out of memory" in report["message"]
    assert "OUT_OF_MEMORY" in report["detail"]
    assert "more memory" in report["next_step"]


@SLOW
def test_a_job_that_exceeds_its_time_limit_fails_with_that_cause(new_world: Callable[..., RealWorld]) -> None:
    world = new_world(options="sbatch_time = 1")
    run_id = world.accept(sleep=200)
    with world.supervised():
        world.await_run(run_id, 240)
    report = world.check(run_id, RunState.FAILED).report
    assert "reached its time limit" in report["message"]
    assert "TIMEOUT" in report["detail"]


@SLOW
def test_a_job_that_an_admin_requeues_runs_again_as_the_same_job(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(sleep=4)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        world.until(lambda: len(world.starts(run_id)) == 1)
        admin.run("scontrol", "requeue", str(world.job_id(run_id)))
        world.await_run(run_id, 180)
    run = world.check(run_id)
    assert (run.attempt, len(run.job_ids)) == (1, 1)
    assert [line.split()[-1] for line in world.starts(run_id)] == ["0", "1"]


@SLOW
def test_a_job_that_an_admin_cancels_ends_its_run(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(sleep=100)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        admin.run("scancel", str(world.job_id(run_id)))
        world.await_run(run_id, 120)
    assert "cancelled on the cluster" in world.check(run_id, RunState.FAILED).report["message"]


def make_way(world: RealWorld, admin: Admin, run_id: Any) -> None:
    """Something more important wants the whole cluster for a moment."""
    world.await_run(run_id, 60, RunState.RUNNING)
    world.until(lambda: len(world.starts(run_id)) == 1)
    user = admin.sandbox.env["CLUSTER_USER"]
    important = ("--partition=short", "--time=1", "--job-name=important", "--output=/dev/null", *EVERYTHING)
    admin.run("sbatch", *important, "--wrap=sleep 2", user=user)


@SLOW
def test_a_preempted_job_is_followed_by_another_attempt(new_world: Callable[..., RealWorld], admin: Admin) -> None:
    admin.configure(PreemptType="preempt/partition_prio", PreemptMode="CANCEL")
    world = new_world(options="sbatch_partition = cpu")
    run_id = world.accept(sleep=6)
    with world.supervised():
        make_way(world, admin, run_id)
        world.await_run(run_id, 180)
    run = world.check(run_id)
    assert run.attempt == 2
    assert any("preempted" in fault.message for fault in run.faults)


@SLOW
def test_a_job_that_is_requeued_by_a_preemption_is_the_same_attempt(
    new_world: Callable[..., RealWorld], admin: Admin
) -> None:
    admin.configure(PreemptType="preempt/partition_prio", PreemptMode="REQUEUE")
    world = new_world(options="sbatch_partition = cpu")
    run_id = world.accept(sleep=6)
    with world.supervised():
        make_way(world, admin, run_id)
        world.await_run(run_id, 180)
    run = world.check(run_id)
    assert (run.attempt, len(run.job_ids)) == (1, 1)


@SLOW
@pytest.mark.parametrize("requeues", [False, True], ids=["not requeued", "requeued"])
def test_a_node_that_dies_costs_an_attempt_or_a_start_but_not_the_run(
    new_world: Callable[..., RealWorld], admin: Admin, requeues: bool
) -> None:
    world = new_world(options=f"sbatch_no-requeue = {str(not requeues).lower()}")
    run_id = world.accept(sleep=8)
    with world.supervised():
        run = world.await_run(run_id, 60, RunState.RUNNING)
        world.until(lambda: len(world.starts(run_id)) == 1)
        node = admin.run("squeue", "-h", "-j", str(world.job_id(run_id)), "-o", "%N").strip()
        admin.lose(node, with_its_jobs=True)
        world.await_run(run_id, 180)
    admin.bring_back(node)
    run = world.check(run_id)
    assert run.attempt == (1 if requeues else 2)
    assert len(world.starts(run_id)) == 2
    if not requeues:
        assert any("failed while the job ran" in fault.message for fault in run.faults)
        assert node in run.attempts[2].excluded_nodes


@SLOW
def test_a_node_that_only_the_controller_has_lost_does_not_spoil_what_runs_elsewhere(
    world: RealWorld, admin: Admin
) -> None:
    """The first start of the job continues unnoticed, while the requeued one runs on another node with the same id."""
    run_id = world.accept(sleep=12)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        world.until(lambda: len(world.starts(run_id)) == 1)
        node = admin.run("squeue", "-h", "-j", str(world.job_id(run_id)), "-o", "%N").strip()
        admin.lose(node, with_its_jobs=False)
        world.await_run(run_id, 180)
    admin.bring_back(node)
    assert world.check(run_id).attempt == 1


# -- arrays ------------------------------------------------------------------------------------------------------------


@SLOW
def test_an_array_is_fed_and_judged_while_the_controller_is_restarted(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(images=6, batch=2, sleep=3)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        admin.stop(Slurmctld)
        time.sleep(2)
        admin.start(Slurmctld)
        world.await_run(run_id, 180)
    run = world.check(run_id)
    assert (run.attempt, len(run.job_ids)) == (1, 1)
    assert len(world.starts(run_id)) == 3


@SLOW
def test_a_task_that_an_admin_requeues_or_cancels_is_one_of_many(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(images=6, batch=2, sleep=8)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
        world.until(lambda: len(world.starts(run_id)) == 3, 60)
        first, second = sorted(one for one in world.in_queue(run_id, "running") if "_" in one)[:2]
        admin.run("scontrol", "requeue", first)
        admin.run("scancel", second)
        run = world.await_run(run_id, 180)
    failed = run.report["failed"]
    assert len(failed) == 1
    assert "cancelled on the cluster" in str(failed)
    run = world.check(run_id)
    assert (run.attempt, len(run.job_ids)) == (1, 1)
    assert sorted(line.split()[-1] for line in world.starts(run_id)) == ["0", "0", "0", "1"]


# -- what it cost ------------------------------------------------------------------------------------------------------


def test_what_a_job_used_is_in_the_log(world: RealWorld, admin: Admin) -> None:
    run_id = world.accept(sleep=KEEPS_A_CORE_BUSY)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
    question = ("sacct", "-n", "-X", "-j", str(world.job_id(run_id)), "-o", "State")
    world.until(lambda: "COMPLETED" in admin.run(*question), 60)  # accounting may lag behind the queue
    with world.supervised():
        world.await_run(run_id, 90)
        world.check(run_id)
        with world.log() as log:
            used = log.run(run_id).intent(RunState.FETCHING)["usage"]
    assert used["elapsed_seconds"] >= 3
    assert (used["cpus"], used["gpus"]) == (1, 0)
    assert 0.5 < used["cpu_seconds"] <= used["elapsed_seconds"] + 1, "it used a core for some seconds"
    assert used["max_rss_bytes"] > 100_000


# -- jobs that left the queue ------------------------------------------------------------------------------------------


@SLOW
def test_the_end_of_a_job_that_left_the_queue_is_read_from_accounting(world: RealWorld, admin: Admin) -> None:
    admin.configure(MinJobAge="2")
    run_id = world.accept(sleep=3)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
    forgotten_by_the_queue(world, run_id)
    with world.supervised():
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1
    assert len(world.starts(run_id)) == 1


@SLOW
def test_without_accounting_the_end_of_a_job_is_read_from_its_markers(world: RealWorld, admin: Admin) -> None:
    admin.configure(MinJobAge="2", **NO_ACCOUNTING)
    run_id = world.accept(sleep=3)
    with world.supervised():
        world.await_run(run_id, 60, RunState.RUNNING)
    forgotten_by_the_queue(world, run_id)
    with world.supervised():
        world.await_run(run_id, 120)
    assert world.check(run_id).attempt == 1
    assert len(world.starts(run_id)) == 1


@SLOW
def test_where_there_is_no_accounting_a_run_ends_as_it_does_elsewhere(world: RealWorld, admin: Admin) -> None:
    admin.configure(**NO_ACCOUNTING)
    good, bad = world.accept(sleep=1), world.accept(sleep=EATS_MEMORY)
    with world.supervised():
        world.await_run(good, 120)
        world.await_run(bad, 120)
    assert world.check(good).attempt == 1
    assert "out of memory" in world.check(bad, RunState.FAILED).report["message"]
