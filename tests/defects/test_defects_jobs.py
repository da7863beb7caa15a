"""Defects of BIOMERO 2.8.3 with jobs on the cluster; each test shows that biomeroworker does not have it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.parsing import array_expression
from biomeroworker.domain.job_status import JobState, JobStatus, by_task
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import AlreadyEnded, RunState
from tests.log_steps import rows
from tests.resilience import child
from tests.resilience.world import CONTAINER, SLOW, World


def executed(world: World, **how: object):
    """A run that is executed to its end in this process."""
    run_id = world.accept(**how)  # type: ignore[arg-type]
    with world.log() as log:
        world.supervisor(log).run_until_end(run_id)
        return log.run(run_id)


def behaves(world: World, *lines: str) -> None:
    """Let the container run this command after it has written its results."""
    image = world.home / "images/obedient/obedient_v1.0.0.sif"
    image.write_text(CONTAINER + "\n".join(lines) + "\n")


def test_a_failed_container_fails_the_run_even_if_it_wrote_results(world: World) -> None:
    """A job counted as completed if its container failed but had written any file."""
    behaves(world, "echo the disk is upside down >&2", "exit 7")
    run = executed(world)
    assert world.check(run.id, RunState.FAILED).report["message"].count("exit code 7")
    assert "upside down" in run.report["detail"]


def test_one_failed_task_of_an_array_is_not_hidden_by_the_last_row(world: World) -> None:
    """The state of an array was that of the task that was listed last."""
    run = executed(world, images=3, batch=1, fail="image-1")
    assert run.attempt == 1
    assert [failed["inputs"] for failed in run.report["failed"]] == [{"image-1": "i01"}]
    rows = "[squeue]\n[end 0]\n[sacct]\n" + "".join(
        f"9_{task}|2026-01-01T00:00:00|1|{code}||00:00:01|1|||{state}|None|a\n"
        for task, state, code in ((1, "FAILED", "1:0"), (2, "COMPLETED", "0:0"), (3, "COMPLETED", "0:0"))
    )
    jobs = commands.parse_status(rows + "[end 0]\n").by_name(["a"])["a"]
    assert [one.state for one in by_task(jobs, [1, 2, 3]).values() if one] == [
        JobState.FAILED,
        JobState.COMPLETED,
        JobState.COMPLETED,
    ]


ENDS = ("OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "TIMEOUT", "CANCELLED by 0", "FAILED")


@pytest.mark.parametrize("word", ENDS)
def test_every_final_state_of_slurm_ends_the_job(word: str) -> None:
    """A job that was out of memory, preempted or lost with its node was polled without end."""
    row = f"9|2026-01-01T00:00:00|1|1:0||00:00:01|1|||{word}|None|a\n"
    (job,) = commands.parse_status(f"[squeue]\n[end 0]\n[sacct]\n{row}[end 0]\n").by_name(["a"])["a"]
    assert job.state.is_terminal
    assert job.state is not JobState.COMPLETED
    assert any("sacct -n -P" in part for part in commands.status_command(["a"], datetime.now(UTC))), (
        "no word is cut short"
    )


def test_another_process_continues_a_run_after_its_submitter_died(world: World) -> None:
    """Only the process that submitted a job monitored it; when it died, the job was not monitored any more."""
    run_id = world.accept(sleep=1.5)
    first = child.start(world, die_in=RunState.RUNNING.value)
    first.join(60)
    assert first.exitcode in (-9, 255)
    with world.log() as log:
        world.supervisor(log).run_until_end(run_id)
    assert world.check(run_id).attempt == 1


def test_occasional_failures_of_accounting_do_not_end_the_monitoring(world: World) -> None:
    """One failed `sacct` was an error that ended the monitoring of a job."""
    world.set_faults("sacct", *["down"] * 3)
    world.set_faults("squeue", *["down"] * 2)
    run = executed(world)
    assert world.check(run.id).attempt == 1


def test_a_refused_submission_ends_the_run_and_leaves_nothing_open(world: World) -> None:
    """A refused submission left a task in the state created without end."""
    world.set_faults("sbatch", *["partition"] * 9)
    run = executed(world)
    assert run.state.is_terminal or run.paused
    text = str(run.report) + run.pause_reason
    assert "partition" in text
    with world.log() as log:
        if run.paused:
            log.request_cancel(run.id, "ada")
            world.supervisor(log).run_until_end(run.id)
        assert log.unfinished() == []
        assert {row["status"] for row in rows(log)["biomero_task_execution"]} <= {"COMPLETED", "FAILED", "CANCELLED"}
    assert world.jobs() == []


@pytest.mark.parametrize("answer", ["555", "555;alpha", "Submitted batch job 555 on cluster alpha"])
def test_the_job_id_is_parsed_from_every_form_of_the_answer(answer: str) -> None:
    """The id in ``Submitted batch job 555 on cluster alpha`` was parsed as -1, and job -1 was monitored."""
    assert commands.parse_submitted(f"a plugin's words\n{answer}\n") == 555
    assert commands.parse_submitted("sbatch: nothing of the kind\n") is None


def test_two_runs_on_the_same_images_have_separate_parameter_files(world: World) -> None:
    """Jobs on one folder read their parameters from one file when they started: the last writer won."""
    behaves(world, 'echo "$sleep" >"$out/parameter"')
    with world.log() as log:
        first = world.accept(sleep=0.5)
        again = log.run(first).request
        again = again | {"parameters": {"sleep": 0.25, "fail": ""}, "outputs": {"folder": str(world.folder / "second")}}
        second = log.accept(again, name="w", description="d", user=1, group=1)
        with child.running(world):
            for run_id in (first, second):
                assert world.await_run(run_id).state is RunState.DONE
        folders = [log.run(run_id).request["outputs"]["folder"] for run_id in (first, second)]
    values = [(world.folder / folder / "parameter").read_text().strip() for folder in folders]
    assert [float(word) for word in values] == [0.5, 0.25]


def test_a_recorded_end_does_not_change(world: World) -> None:
    """A state FAILED was overwritten by the next status query."""
    behaves(world, "exit 1")
    run = executed(world)
    with world.log() as log:
        for later in (
            lambda: log.finish(run.id),
            lambda: log.cancelled(run.id, {}),
            lambda: log.intend(run.id, RunState.FETCHING, attempt=1),
        ):
            with pytest.raises(AlreadyEnded):
                later()
        log.observe(run.id, 1, JobStatus("", -1, JobState.COMPLETED, "COMPLETED"))
        assert log.run(run.id).state is RunState.FAILED


def test_without_an_image_no_job_is_submitted(world: World) -> None:
    """With nothing to convert, an array of tasks 1 to 0 was submitted; SLURM refused arrays that were too large."""
    (world.folder / "nothing").mkdir()
    request = RunRequest(
        workflow="obedient",
        source="folder",
        inputs={"folder": str(world.folder / "nothing")},
        outputs={"folder": str(world.folder / "results")},
    )
    with world.log() as log:
        run_id = log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)
        world.supervisor(log).run_until_end(run_id)
        run = log.run(run_id)
    assert run.state is RunState.FAILED
    assert "image" in run.report["message"]
    assert world.jobs() == []
    with pytest.raises(ValueError, match="at least one task"):
        array_expression([], 4)


@SLOW
def test_no_array_has_more_tasks_than_the_cluster_allows(world: World) -> None:
    """An array larger than the cluster's ``MaxArraySize`` was refused by SLURM."""
    (world.slurm / "max_array_size").write_text("4")
    run = executed(world, images=9, batch=1)
    assert world.check(run.id).attempt == 1
    assert len(world.jobs()) <= 4
