"""The tracker and the views as old programs construct and combine them."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path
from uuid import UUID

import pytest
from eventsourcing.system import SingleThreadedRunner, System
from sqlalchemy import inspect, select, text

from biomero import (
    EngineManager,
    JobAccounting,
    JobProgress,
    JobView,
    WorkflowAnalytics,
    WorkflowProgress,
    WorkflowTracker,
)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/log.sqlite"
    monkeypatch.setenv("SQLALCHEMY_URL", url)
    return url


def test_a_tracker_takes_its_database_from_the_environment_or_its_argument(url: str, tmp_path: Path) -> None:
    run = WorkflowTracker().initiate_workflow("a", "b", 1, 2)
    assert WorkflowTracker().repository.get(str(run)).name == "a"
    other = WorkflowTracker(env={"SQLALCHEMY_URL": f"sqlite:///{tmp_path}/other.sqlite", "PERSISTENCE_MODULE": "x"})
    assert other.notification_log.select(start=1, limit=10) == []
    assert (WorkflowTracker.name, JobAccounting.name) == ("WorkflowTracker", "JobAccounting")


def test_the_database_can_be_queried_and_disposed_through_the_factory(url: str) -> None:
    tracker = WorkflowTracker(env={"SQLALCHEMY_URL": url, "SQLALCHEMY_SCOPED_SESSION_TOPIC": ""})
    run = tracker.initiate_workflow("a", "b", 1, 2)
    other = WorkflowTracker()
    tracker.close()
    tracker.factory.datastore.engine.dispose()
    assert other.repository.get(run).description == "b"
    with other.factory.datastore.engine.connect() as connection:
        assert connection.execute(text("SELECT status FROM biomero_workflow_progress_view")).scalar() == "INITIALIZING"


def test_a_reader_makes_no_table_if_it_is_told_so(url: str) -> None:
    tracker = WorkflowTracker(env={"CREATE_TABLE": "no"})
    assert inspect(tracker.factory.datastore.engine).get_table_names() == []


def test_the_views_are_constructed_without_arguments(url: str) -> None:
    tracker = WorkflowTracker()
    run = tracker.initiate_workflow("a", "b", user=1, group=2)
    task = tracker.add_task_to_workflow(str(run), "cells", "v1", "in", {"size": 3})
    tracker.add_job_id(str(task), 11)
    tracker.update_task_status(task, "RUNNING")
    assert JobAccounting().get_jobs(user=1) == {1: [11]}
    assert JobAccounting().get_task_id(11) == task
    assert JobProgress().job_status[11]["status"] == "RUNNING"
    assert WorkflowProgress().workflows[run]["main_task_name"] == "cells"
    assert WorkflowAnalytics().get_task_counts(user=1) == {("cells", "v1"): 1}
    assert JobAccounting(env={"SQLALCHEMY_URL": url}).recorder.max_tracking_id(application_name="WorkflowTracker") == 5


def test_the_documented_rebuild_fills_emptied_tables(url: str, tmp_path: Path) -> None:
    tracker = WorkflowTracker()
    task = tracker.add_task_to_workflow(tracker.initiate_workflow("a", "b", 1, 2), "cells", "v1", "in", {})
    tracker.add_job_id(task, 11)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        for name in ("job_view", "job_progress_view", "workflow_progress_view", "task_execution"):
            database.execute(f"DELETE FROM biomero_{name}")
    assert JobAccounting().get_jobs() == {}
    pipes = [[WorkflowTracker, view] for view in (JobAccounting, JobProgress, WorkflowProgress, WorkflowAnalytics)]
    runner = SingleThreadedRunner(System(pipes=pipes))
    runner.start()
    leader = runner.get(WorkflowTracker)
    leader.pull_and_process(leader_name=WorkflowTracker.__name__)
    assert runner.get(JobAccounting).get_jobs() == {1: [11]}
    run = leader.initiate_workflow("c", "d", 3, 4)
    assert runner.get(WorkflowProgress).workflows[run]["user"] == 3
    runner.stop()
    assert leader.closing.is_set()


def test_pulling_from_the_start_makes_the_tables_again(url: str, tmp_path: Path) -> None:
    tracker = WorkflowTracker()
    run = tracker.initiate_workflow("a", "b", 1, 2)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("UPDATE biomero_workflow_progress_view SET status = 'WRONG'")
    tracker.pull_and_process(leader_name="WorkflowTracker", start=1)
    assert WorkflowProgress().workflows[run]["status"] == "INITIALIZING"


def test_events_of_a_program_without_tables_are_caught_up(url: str, tmp_path: Path) -> None:
    tracker = WorkflowTracker()
    first = tracker.initiate_workflow("a", "b", 1, 2)
    second = UUID(int=7)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute(
            "INSERT INTO workflowtracker_events (originator_id, originator_version, topic, state) "
            "SELECT ?, originator_version, topic, state FROM workflowtracker_events", (second.hex,),
        )  # fmt: skip
    assert set(WorkflowProgress().workflows) == {first}
    WorkflowProgress().pull_and_process("WorkflowTracker", start=1000)
    assert set(WorkflowProgress().workflows) == {first, second}


def test_closing_the_sessions_closes_no_tracker(url: str) -> None:
    tracker = WorkflowTracker()
    EngineManager.create_scoped_session()
    run = tracker.initiate_workflow("a", "b", 1, 2)
    task = tracker.add_task_to_workflow(run, "cells", "v1", "in", {})
    tracker.add_job_id(task, 11)
    with EngineManager.get_session() as session:
        assert session.execute(select(JobView.slurm_job_id)).scalars().all() == [11]
    EngineManager.close_engine()
    tracker.complete_workflow(run)
    assert tracker.run(run).state.is_terminal


def _record(number: int) -> None:
    tracker = WorkflowTracker()
    for _ in range(5):
        tracker.complete_workflow(tracker.initiate_workflow(f"n{number}", "b", number, 2))


def test_processes_record_side_by_side_also_after_a_fork(url: str) -> None:
    WorkflowTracker().initiate_workflow("before", "b", 1, 2)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert len(WorkflowProgress().workflows) == 21
