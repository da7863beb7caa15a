"""Runs that are split: chunks are sent while others compute, tasks are evaluated one by one, losses are repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from uuid import UUID

import pytest

from biomeroworker.deployment import rerun
from biomeroworker.domain import ranges
from biomeroworker.eventlog.runlog import RunState, WorkflowRun
from tests.resilience import child
from tests.resilience.world import SLOW, World


def execute(world: World, run_id: UUID, *expected: RunState) -> WorkflowRun:
    """Wait for the end of the run, and check the promise."""
    with child.running(world):
        world.await_run(run_id, 60)
    return world.check(run_id, *expected)


def events(world: World, run_id: UUID, name: str) -> list[dict[str, object]]:
    with world.log() as log:
        return [dict(event.attributes) for event in log.events(run_id) if event.name == name]


@SLOW
def test_an_array_computes_its_first_chunk_while_the_others_are_still_being_sent(world: World) -> None:
    run_id = world.accept(images=6, batch=1)
    run = execute(world, run_id)
    assert {job["id"] for job in world.jobs()} == {run.job_ids[0]}, "one array, whatever the number of chunks"
    sent = events(world, run_id, "ChunksSent")
    assert [number for one in sent for number in ranges.parse_ranges(str(one["chunks"]))] == list(range(6))
    with world.log() as log:
        names = [event.name for event in log.events(run_id)]
    assert names.index("JobSubmitted") < names.index("ChunksSent"), "it is submitted when its first chunk has arrived"
    first = min(job["ended"] for job in world.jobs())
    last_sent = max(job["begun"] for job in world.jobs())
    assert first < last_sent, "the first chunk was computed before the last was sent"
    observed = events(world, run_id, "JobObserved")
    assert len(observed) < 20
    assert observed[-1]["progress"] == "100%"


@SLOW
def test_a_chunk_that_fails_does_not_affect_the_results_of_the_others(world: World) -> None:
    run_id = world.accept(images=5, batch=2, fail="image-3")
    run = execute(world, run_id)
    (failed,) = run.report["failed"]
    assert failed["inputs"] == {"image-3": "i03", "image-4": "i04"}
    assert "exit code 3" in failed["message"]
    assert "failing on image-3" in failed["detail"], "the end of the container's stderr is recorded"
    assert "2 of 5 images failed" in run.report["message"]
    with world.log() as log:
        assert "2 of 5 images failed" in log.runs()[0].message
        request = rerun.build_rerun_request(run, failed=True)
        second = log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)
    repeated = request.model_copy(update={"parameters": {**request.parameters, "fail": ""}})
    with world.log() as log:
        third = log.accept(repeated.model_dump(mode="json"), name="w", description="d", user=1, group=1)
    with child.running(world):
        assert world.await_run(second, 60).state is RunState.FAILED, "it fails the same way again"
        done = world.await_run(third, 60)
    assert done.state is RunState.DONE, done.report
    assert done.request is not None
    results = world.folder / "x" / done.request["outputs"]["folder"]
    found = sorted(path.name for path in results.iterdir())
    assert [name for name in found if name.endswith(".txt")] == [f"i{number:02d}_text.txt" for number in range(1, 6)]
    assert len([name for name in found if name.startswith("provenance")]) == 2


@SLOW
def test_a_run_fails_if_all_of_its_chunks_fail(world: World) -> None:
    run_id = world.accept(images=3, batch=1, fail="image-1 image-2 image-3")
    run = execute(world, run_id, RunState.FAILED)
    assert "all 3 tasks failed" in run.report["message"]
    assert "failing on image-1" in run.report["detail"]


@SLOW
def test_tasks_that_are_lost_to_a_node_are_repeated_alone_on_another_node(world: World) -> None:
    world.loses(1, 2, 2)
    run_id = world.accept(images=4, batch=1)
    run = execute(world, run_id)
    assert [attempt.tasks for attempt in run.attempts.values()] == [(0, 1, 2, 3), (1, 2), (2,)]
    assert run.good_chunks == {0: 1, 3: 1, 1: 2, 2: 3}
    assert run.attempts[2].excluded_nodes == ("n1",)
    assert not run.attempts[2].is_held, "its inputs were on the cluster"


@SLOW
def test_an_array_has_at_most_as_many_tasks_as_the_cluster_allows(world: World) -> None:
    (world.slurm / "max_array_size").write_text("3")
    run = execute(world, world.accept(images=7, batch=1))
    assert run.chunks <= 3


@SLOW
@pytest.mark.parametrize("word", ["down", "silent"])
def test_a_release_without_an_answer_is_repeated(world: World, word: str) -> None:
    world.set_faults("scontrol", "", word, word)  # the first call queries the site's limits
    run = execute(world, world.accept(images=3, batch=1))
    assert run.attempt == 1


@SLOW
@pytest.mark.parametrize("stage", ["queued", "importing"])
def test_another_machine_without_the_work_folder_continues_to_send_chunks(world: World, stage: str) -> None:
    run_id = world.accept(images=4, batch=1, sleep=0.5)
    process = child.start(world, die_in=stage)
    process.join(60)
    assert process.exitcode == -9
    shutil.rmtree(world.folder / "work")
    execute(world, run_id)


@SLOW
def test_inputs_that_the_cluster_deleted_are_sent_again_for_lost_tasks(world: World) -> None:
    world.loses(1)
    run_id = world.accept(images=3, batch=1)
    process = child.start(world, die_in="fetching")
    process.join(60)
    shutil.rmtree(world.home / "data" / f"biomero_{run_id}" / "in" / "0001")
    run = execute(world, run_id)
    assert run.attempts[2].tasks == (1,)


def test_a_cancel_ends_an_array_whose_chunks_are_still_being_sent(world: World) -> None:
    run_id = world.accept(images=12, batch=1, sleep=20)
    with child.running(world):
        world.until(lambda: bool(world.live(run_id)))
        with world.log() as log:
            log.request_cancel(run_id, "ada")
        world.await_run(run_id, 40)
    run = world.check(run_id, RunState.CANCELLED)
    assert "cancelled by ada" in run.report["message"]


@SLOW
def test_an_array_that_an_admin_cancels_keeps_the_results_of_its_done_tasks(world: World) -> None:
    run_id = world.accept(images=8, batch=1)
    with child.running(world):
        world.until(lambda: any(job["state"] == "COMPLETED" for job in world.jobs()))
        world.cancels(run_id)
        world.await_run(run_id, 60)
    run = world.check(run_id)
    if run.chunks != len(run.good_chunks):  # the array may have been faster than the cancel
        assert "cancelled on the cluster" in run.report["message"]


@SLOW
def test_inputs_that_disappear_while_they_are_sent_end_the_run_and_its_array(
    new_world: Callable[[str], World],
) -> None:
    world = new_world("vanish")
    run_id = world.accept(images=6, batch=1, sleep=1)
    with world.log() as log:
        request = log.run(run_id).request
    assert request is not None
    process = child.start(world, die_in="submitting")
    process.join(60)
    for name in ("i05.tif", "i06.tif"):
        (world.folder / "x" / request["inputs"]["folder"] / name).unlink()
    run = execute(world, run_id, RunState.FAILED)
    assert "does not exist any more" in run.report["message"]
