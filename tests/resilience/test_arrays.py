"""Runs that are split: fed while they compute, judged task by task, partly done, and whole again after any loss."""

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


def carried(world: World, run_id: UUID, *expected: RunState) -> WorkflowRun:
    """The run at its end, with the promise kept."""
    with child.running(world):
        world.await_run(run_id, 60)
    return world.check(run_id, *expected)


def events(world: World, run_id: UUID, name: str) -> list[dict[str, object]]:
    with world.log() as log:
        return [dict(event.attributes) for event in log.events(run_id) if event.name == name]


@SLOW
def test_many_images_are_one_array_that_computes_while_the_rest_is_on_its_way(world: World) -> None:
    run_id = world.accept(images=6, batch=1)
    run = carried(world, run_id)
    assert {job["id"] for job in world.jobs()} == {run.job_ids[0]}, "one array, whatever the number of chunks"
    sent = events(world, run_id, "ChunksSent")
    assert [number for one in sent for number in ranges.parse_ranges(str(one["chunks"]))] == list(range(6))
    with world.log() as log:
        names = [event.name for event in log.events(run_id)]
    assert names.index("JobSubmitted") < names.index("ChunksSent"), "it is submitted when its first chunk is there"
    first = min(job["ended"] for job in world.jobs())
    last_sent = max(job["begun"] for job in world.jobs())
    assert first < last_sent, "the first chunk was computed before the last could begin"
    observed = events(world, run_id, "JobObserved")
    assert len(observed) < 20
    assert observed[-1]["progress"] == "100%"


@SLOW
def test_a_chunk_that_fails_for_good_leaves_the_others_their_results(world: World) -> None:
    run_id = world.accept(images=5, batch=2, fail="image-3")
    run = carried(world, run_id)
    (failed,) = run.report["failed"]
    assert failed["inputs"] == {"image-3": "i03", "image-4": "i04"}
    assert "exit code 3" in failed["message"]
    assert "failing on image-3" in failed["detail"], "the container's last words are kept"
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
def test_a_run_all_of_whose_chunks_fail_has_failed(world: World) -> None:
    run_id = world.accept(images=3, batch=1, fail="image-1 image-2 image-3")
    run = carried(world, run_id, RunState.FAILED)
    assert "all 3 tasks failed" in run.report["message"]
    assert "failing on image-1" in run.report["detail"]


@SLOW
def test_tasks_that_are_lost_to_a_node_are_tried_again_by_themselves_and_elsewhere(world: World) -> None:
    world.loses(1, 2, 2)
    run_id = world.accept(images=4, batch=1)
    run = carried(world, run_id)
    assert [attempt.tasks for attempt in run.attempts.values()] == [(0, 1, 2, 3), (1, 2), (2,)]
    assert run.good_chunks == {0: 1, 3: 1, 1: 2, 2: 3}
    assert run.attempts[2].excluded_nodes == ("n1",)
    assert not run.attempts[2].is_held, "all that it works on was there"


@SLOW
def test_there_are_no_more_tasks_than_the_cluster_allows(world: World) -> None:
    (world.slurm / "max_array_size").write_text("3")
    run = carried(world, world.accept(images=7, batch=1))
    assert run.chunks <= 3


@SLOW
@pytest.mark.parametrize("word", ["down", "silent"])
def test_a_release_of_which_nothing_is_heard_is_repeated(world: World, word: str) -> None:
    world.goes_wrong("scontrol", "", word, word)  # the first call asks for the site's limits
    run = carried(world, world.accept(images=3, batch=1))
    assert run.attempt == 1


@SLOW
@pytest.mark.parametrize("stage", ["queued", "importing"])
def test_another_machine_without_the_work_folder_goes_on_feeding(world: World, stage: str) -> None:
    run_id = world.accept(images=4, batch=1, sleep=0.5)
    process = child.start(world, die_in=stage)
    process.join(60)
    assert process.exitcode == -9
    shutil.rmtree(world.folder / "work")
    carried(world, run_id)


@SLOW
def test_a_cluster_that_has_swept_its_scratch_is_given_the_inputs_of_lost_tasks_again(world: World) -> None:
    world.loses(1)
    run_id = world.accept(images=3, batch=1)
    process = child.start(world, die_in="fetching")
    process.join(60)
    shutil.rmtree(world.home / "data" / f"biomero_{run_id}" / "in" / "0001")
    run = carried(world, run_id)
    assert run.attempts[2].tasks == (1,)


def test_a_cancel_ends_an_array_that_is_still_being_fed(world: World) -> None:
    run_id = world.accept(images=12, batch=1, sleep=20)
    with child.running(world):
        world.until(lambda: bool(world.live(run_id)))
        with world.log() as log:
            log.request_cancel(run_id, "ada")
        world.await_run(run_id, 40)
    run = world.check(run_id, RunState.CANCELLED)
    assert "cancelled by ada" in run.report["message"]


@SLOW
def test_an_array_that_somebody_cancels_while_it_is_fed_keeps_what_was_done(world: World) -> None:
    run_id = world.accept(images=8, batch=1)
    with child.running(world):
        world.until(lambda: any(job["state"] == "COMPLETED" for job in world.jobs()))
        world.cancels(run_id)
        world.await_run(run_id, 60)
    run = world.check(run_id)
    if run.chunks != len(run.good_chunks):  # it may have been too fast for us
        assert "cancelled on the cluster" in run.report["message"]


@SLOW
def test_inputs_that_vanish_while_they_are_fed_end_the_run_and_its_array(
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
    run = carried(world, run_id, RunState.FAILED)
    assert "does not exist any more" in run.report["message"]
