"""The same promise on a real PostgreSQL, which is also stopped and started while runs are executed."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biomeroworker.eventlog.runlog import RunState
from tests.resilience import child
from tests.resilience.world import SLOW, World

pytestmark = pytest.mark.sandbox


@pytest.fixture
def world(postgres_url: str, tmp_path: Path) -> World:
    """A world with its own database."""
    return World(tmp_path / "world", postgres_url).make()


@SLOW
def test_runs_end_once_if_their_supervisor_is_killed_at_some_boundaries(world: World) -> None:
    for boundary in (4, 11, 15, 18, 27):
        run_id = world.accept()
        first = child.start(world, kill_at=boundary, only=str(run_id))
        first.join(60)
        assert first.exitcode == -9
        with child.running(world, only=str(run_id)):
            world.await_run(run_id)
        world.check(run_id)


def test_two_supervisors_execute_the_runs_of_six_submitters_once_on_postgresql(world: World) -> None:
    accepted: list[uuid.UUID] = []
    threads = [threading.Thread(target=lambda: accepted.append(world.accept())) for _ in range(6)]
    with child.running(world), child.running(world):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run_id in accepted:
            world.await_run(run_id, 60)
    for run_id in accepted:
        world.check(run_id)
    assert len(accepted) == 6


def test_a_supervisor_that_was_suspended_cannot_write_to_a_run_of_another(world: World) -> None:
    run_id = world.accept(sleep=1)
    first = child.start(world, pause_at_submit=True)
    world.await_run(run_id, 30, RunState.SUBMITTING)
    with child.running(world):
        world.await_run(run_id, 30, RunState.RUNNING)
        assert first.pid
        os.kill(first.pid, signal.SIGCONT)
        world.await_run(run_id)
    child.stop(first)
    assert world.check(run_id).faults == []


@pytest.fixture
def own_postgres(new_sandbox: Callable[[], Any]) -> Any:
    """A PostgreSQL for this test only, which it may stop."""
    sandbox = new_sandbox()
    sandbox.up("postgres")
    return sandbox


@SLOW
def test_a_database_that_is_stopped_and_started_at_every_stage_loses_nothing(own_postgres: Any, tmp_path: Path) -> None:
    world = World(tmp_path / "world", own_postgres.env["SQLALCHEMY_URL"]).make()
    (pid_file,) = own_postgres.path.rglob("postmaster.pid")
    stages = [stage for stage in RunState if not stage.is_terminal]
    stopped = []
    run_id = world.accept(sleep=1)
    with child.running(world):
        for stage in stages:
            run = world.await_run(run_id, 60, *[one for one in RunState if one.order >= stage.order])
            if run.state.is_terminal:
                break
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
            world.until(lambda: not pid_file.exists())
            stopped.append(run.state)
            time.sleep(0.5)
            own_postgres.up("postgres")
        world.await_run(run_id, 60)
    assert len(set(stopped)) >= 3, stopped
    assert world.check(run_id).attempt == 1
