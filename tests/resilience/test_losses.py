"""Connection, work folder or nodes are lost at each stage, and the run ends once."""

from __future__ import annotations

import shutil

import pytest

from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import SLOW, World

ON_THE_WAY = (
    RunState.TRANSFERRING,
    RunState.SUBMITTING,
    RunState.QUEUED,
    RunState.RUNNING,
    RunState.FETCHING,
)


@SLOW
@pytest.mark.parametrize("state", ["away", "hole"])
def test_a_connection_that_is_lost_at_every_stage_only_delays_the_run(world: World, state: str) -> None:
    run_id = world.accept(sleep=0.5)
    with child.running(world):
        for stage in ON_THE_WAY:
            if world.await_run(run_id, 30, *[one for one in RunState if one.order >= stage.order]).state.is_terminal:
                break
            world.link(state)
            world.until(lambda: len(world.faults(run_id)) > 0, seconds=6, must=False)
            world.clear_faults()
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@pytest.mark.parametrize("number", [4, *(pytest.param(number, marks=SLOW) for number in (2, 3, 5))])
def test_an_execution_whose_connection_is_cut_is_repeated(world: World, number: int) -> None:
    run_id = world.accept()
    with child.running(world, cut_at=number):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(RunState.TRANSFERRING, marks=SLOW),
        pytest.param(RunState.RUNNING, marks=SLOW),
        pytest.param(RunState.FETCHING, marks=SLOW),
        RunState.IMPORTING,
    ],
)
def test_another_machine_without_the_work_folder_can_execute_the_run(world: World, stage: RunState) -> None:
    run_id = world.accept(sleep=0.5)
    process = child.start(world, die_in=stage.value)
    process.join(30)
    assert process.exitcode == -9
    shutil.rmtree(world.folder / "work")
    with child.running(world):
        world.await_run(run_id)
    assert world.check(run_id).attempt == 1


@SLOW
def test_a_run_is_paused_after_several_failed_nodes_and_continues_when_resumed(world: World) -> None:
    image = world.home / "images/obedient/obedient_v1.0.0.sif"
    run_id = world.accept()
    with child.running(world, die_in=RunState.SUBMITTING.value) as process:
        process.join(30)
    image.rename(image.with_suffix(".gone"))
    with child.running(world), world.log() as log:
        world.until(lambda: log.run(run_id).paused)
        run = log.run(run_id)
        assert run.attempt == 4
        assert run.attempts[4].excluded_nodes == ("n1",)
        image.with_suffix(".gone").rename(image)
        log.resume(run_id)
        world.await_run(run_id)
    run = world.check(run_id)
    assert run.attempt == 5
    assert run.attempts[5].excluded_nodes == ("n1",)
