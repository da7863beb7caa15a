"""The lines between the worker and its cluster and its database: cut, long, thin, silent, at every stage of a run.

After each fault, the run continues automatically when the connection works again, and no step has two effects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy.engine import make_url

from biomeroworker.eventlog.runlog import RunState
from tests.links import Line, walled
from tests.resilience.real.deployment import RealWorld
from tests.resilience.world import SLOW

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(400)]

STAGES = [RunState.TRANSFERRING, RunState.SUBMITTING, RunState.RUNNING, RunState.FETCHING]
BEYOND = 8.0  #: seconds: longer than a line may be silent before it is given up, in these worlds


@pytest.fixture
def log_line(postgres: str) -> Iterator[Line]:
    """A line to PostgreSQL."""
    line = Line(make_url(postgres).port or 5432)
    yield line
    line.close()


@pytest.fixture
def far(new_world: Callable[..., RealWorld], ssh_line: tuple[Line, Path]) -> RealWorld:
    """A world at the end of that line."""
    return new_world(ssh_config=ssh_line[1])


def reach(world: RealWorld, run_id: UUID, stage: RunState) -> None:
    """Wait until a run is in a stage, or has just passed it."""
    world.await_run(run_id, 90, *[one for one in RunState if one.order >= stage.order])


def ended_once(world: RealWorld, run_id: UUID) -> None:
    run = world.check(run_id)
    assert run.attempt == 1
    assert len(run.job_ids) == 1
    assert len(world.starts(run_id)) == 1


# -- to the cluster ----------------------------------------------------------------------------------------------------


def test_a_transfer_that_is_cut_in_the_middle_goes_on_where_it_was(far: RealWorld, ssh_line: tuple[Line, Path]) -> None:
    line = ssh_line[0]
    line.rate = 4e6
    run_id = far.accept_large(3_000_000)
    with far.supervised():
        reach(far, run_id, RunState.TRANSFERRING)
        line.cut_after(1_500_000)
        far.until(lambda: line.is_cut)
        line.restore()
        far.await_run(run_id, 90)
    ended_once(far, run_id)


@SLOW
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seconds", [0.0, 3.0], ids=["a moment", "seconds"])
def test_a_connection_that_is_cut_and_restored(
    far: RealWorld, ssh_line: tuple[Line, Path], stage: RunState, seconds: float
) -> None:
    line = ssh_line[0]
    line.delay = 0.3  # so that something is under way when it is cut
    run_id = far.accept_large(500_000, sleep=2)
    with far.supervised():
        reach(far, run_id, stage)
        line.cut()
        time.sleep(seconds)
        line.restore()
        far.await_run(run_id, 120)
    ended_once(far, run_id)


@SLOW
def test_the_answer_to_a_submission_is_lost(far: RealWorld, ssh_line: tuple[Line, Path]) -> None:
    """SLURM has the job; its number is on a line that is cut."""
    line = ssh_line[0]
    run_id = far.accept(sleep=1)
    with far.supervised():
        reach(far, run_id, RunState.TRANSFERRING)
        line.delay = 1.0
        far.until(lambda: bool(far.in_queue(run_id)), 90)
        line.cut()
        with far.log() as log:
            assert not log.run(run_id).job_ids, "the answer was there already"
        line.restore()
        far.await_run(run_id, 120)
    ended_once(far, run_id)


@SLOW
@pytest.mark.parametrize("stage", STAGES)
def test_a_line_that_swallows_everything_and_comes_back(
    far: RealWorld, ssh_line: tuple[Line, Path], stage: RunState
) -> None:
    line = ssh_line[0]
    line.delay = 0.3
    run_id = far.accept_large(500_000, sleep=2)
    with far.supervised():
        reach(far, run_id, stage)
        line.hole()
        time.sleep(BEYOND)
        line.restore()
        far.await_run(run_id, 180)
    ended_once(far, run_id)


@SLOW
def test_a_connection_without_answers_is_closed_and_replaced(far: RealWorld, ssh_line: tuple[Line, Path]) -> None:
    """Nothing that was on the way ever arrives: what was held up is lost when the line comes back."""
    line = ssh_line[0]
    run_id = far.accept(sleep=2)
    with far.supervised():
        reach(far, run_id, RunState.RUNNING)
        line.hole()
        far.until(lambda: bool(far.faults(run_id)), 90)
        line.cut()
        line.restore()
        far.await_run(run_id, 180)
    ended_once(far, run_id)


@SLOW
def test_a_line_that_is_long_and_thin_only_takes_its_time(far: RealWorld, ssh_line: tuple[Line, Path]) -> None:
    line = ssh_line[0]
    line.delay, line.rate = 0.4, 200_000
    run_id = far.accept_large(400_000)
    with far.supervised():
        far.await_run(run_id, 180)
        with far.log() as log:
            assert log.run(run_id).faults == []
    ended_once(far, run_id)


@SLOW
def test_a_front_end_that_ceases_to_exist_for_a_while(far: RealWorld, ssh_line: tuple[Line, Path]) -> None:
    run_id = far.accept(sleep=2)
    with far.supervised():
        reach(far, run_id, RunState.RUNNING)
        with walled(ssh_line[0].port):
            far.until(lambda: bool(far.faults(run_id)), 90)
        far.await_run(run_id, 180)
    ended_once(far, run_id)


# -- to the database ---------------------------------------------------------------------------------------------------

ALL_STAGES = [RunState.ACCEPTED, RunState.EXPORTING, *STAGES, RunState.IMPORTING]


@pytest.fixture
def logged_far(new_world: Callable[..., RealWorld], postgres: str, log_line: Line) -> RealWorld:
    """A world whose supervisors reach their log over a line."""
    world = new_world()
    url = make_url(world.url).set(port=log_line.port)
    world.database = url.render_as_string(hide_password=False)
    return world


@SLOW
def test_the_line_to_the_log_is_cut_while_a_job_runs(logged_far: RealWorld, log_line: Line) -> None:
    run_id = logged_far.accept(sleep=1)
    with logged_far.supervised():
        reach(logged_far, run_id, RunState.RUNNING)
        log_line.cut()
        time.sleep(1)  # the job ends, and nothing of it can be recorded
        log_line.restore()
        logged_far.await_run(run_id, 90)
    ended_once(logged_far, run_id)


@SLOW
@pytest.mark.parametrize("stage", ALL_STAGES)
@pytest.mark.parametrize("how", ["cut", "hole"])
def test_the_line_to_the_log_is_lost_at_every_stage(
    logged_far: RealWorld, log_line: Line, stage: RunState, how: str
) -> None:
    run_id = logged_far.accept(sleep=1)
    log_line.delay = 0.02  # a log that is a little away: each stage lasts long enough to be met in it
    with logged_far.supervised():
        reach(logged_far, run_id, stage)
        getattr(log_line, how)()
        time.sleep(2 if how == "cut" else BEYOND)
        log_line.restore()
        logged_far.await_run(run_id, 120)
    ended_once(logged_far, run_id)


@SLOW
def test_the_line_to_the_log_is_long_and_thin(logged_far: RealWorld, log_line: Line) -> None:
    log_line.delay, log_line.rate = 0.1, 100_000
    run_id = logged_far.accept(sleep=1)
    with logged_far.supervised():
        logged_far.await_run(run_id, 180)
    ended_once(logged_far, run_id)


@SLOW
@pytest.mark.parametrize("stage", [RunState.SUBMITTING, RunState.RUNNING])
def test_a_database_that_ceases_to_exist_for_a_while(logged_far: RealWorld, log_line: Line, stage: RunState) -> None:
    """Queries sent before are never answered: their callers must detect that with their own timeouts."""
    run_id = logged_far.accept(sleep=2)
    with logged_far.supervised():
        reach(logged_far, run_id, stage)
        with walled(log_line.port):
            time.sleep(40)  # longer than the kernel tries
            log_line.cut()
        log_line.restore()
        logged_far.await_run(run_id, 180)
    ended_once(logged_far, run_id)
