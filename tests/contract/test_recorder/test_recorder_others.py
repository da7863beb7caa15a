"""Logs that other programs wrote: ids as bytes or text, ids of runs as text, events of newer programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, select, text

from biomeroworker.eventlog.detached import MARKER, waiting_runs
from biomeroworker.eventlog.mapper import UnknownEvent
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.tables import VIEWS
from biomeroworker.eventlog.tracker import WorkflowTracker

RUN, TASK, IMPORT = UUID(int=1), UUID(int=2), UUID(int=3)
TIME = {"_type_": "datetime_iso", "_data_": "2026-10-26T10:00:00+00:00"}
MODULE = "biomero.eventsourcing"


def hex_id(one: UUID) -> dict[str, str]:
    return {"_type_": "uuid_hex", "_data_": one.hex}


#: A run whose second task has the run's id as text; the events without a class here are of biomero 2.9.
EVENTS = [
    (RUN, 0, f"{MODULE}:WorkflowRun.WorkflowInitiated",
     {"originator_topic": f"{MODULE}:WorkflowRun", "name": "cells", "description": "cells v1", "user": 5, "group": 7}),
    (RUN, 1, f"{MODULE}:WorkflowRun.CanonicalInputsRecorded",
     {"export_task_id": hex_id(TASK), "canonical_inputs": [{"image": 4}]}),
    (TASK, 0, f"{MODULE}:Task.TaskCreated",
     {"originator_topic": f"{MODULE}:Task", "workflow_id": str(RUN), "task_name": "cells", "task_version": "v1",
      "input_data": "in", "params": {"size": 3}}),
    (RUN, 2, f"{MODULE}:WorkflowRun.TaskAdded", {"task_id": hex_id(TASK)}),
    (TASK, 1, f"{MODULE}:Task.JobIdAdded", {"job_id": 11}),
    (TASK, 2, f"{MODULE}:Task.StorageProvenanceRecorded", {"target_key": "a", "evidence": {}}),
    (TASK, 3, f"{MODULE}:Task.StatusUpdated", {"status": "RUNNING"}),
    (uuid4(), 0, "biomero.maintenance:MetadataRefresh.Created",
     {"originator_topic": "biomero.maintenance:MetadataRefresh", "user": 5, "group": 7, "options": {}}),
]  # fmt: skip


#: The columns of the events table for each kind of database: SQLite as biomero made it, SQLite as it is made here.
COLUMNS = {
    "sqlite 2.8": "id INTEGER NOT NULL PRIMARY KEY, originator_id BINARY(16) NOT NULL, state BLOB NOT NULL",
    "sqlite": "id INTEGER NOT NULL PRIMARY KEY, originator_id CHAR(32) NOT NULL, state BLOB NOT NULL",
    "postgresql": "id BIGSERIAL PRIMARY KEY, originator_id UUID NOT NULL, state BYTEA NOT NULL",
}


@pytest.fixture(params=["sqlite 2.8", "sqlite", pytest.param("postgresql", marks=pytest.mark.sandbox)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the events."""
    kind = request.param
    url: str = request.getfixturevalue("postgres_url") if kind == "postgresql" else f"sqlite:///{tmp_path}/log.sqlite"
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE workflowtracker_events ({COLUMNS[kind]}, originator_version BIGINT NOT NULL, "
            "topic TEXT NOT NULL)"
        )
        for one, version, topic, attributes in EVENTS:
            connection.execute(
                text(
                    "INSERT INTO workflowtracker_events (originator_id, originator_version, topic, state) "
                    "VALUES (:one, :version, :topic, :state)"
                ),
                {
                    "one": one.bytes if kind == "sqlite 2.8" else one.hex, "version": version, "topic": topic,
                    "state": json.dumps({"timestamp": TIME, **attributes}).encode(),
                },
            )  # fmt: skip
    engine.dispose()
    return url


@pytest.fixture
def log(url: str) -> Iterator[RunLog]:
    with RunLog.open(url) as log:
        yield log


def test_runs_and_tasks_are_read_and_go_on(log: RunLog) -> None:
    run, task = log.tracker.run(RUN), log.tracker.task(TASK)
    assert (run.name, run.tasks, run.version) == ("cells", [TASK], 2)
    assert (task.workflow_id, task.status, task.job_ids, task.version) == (RUN, "RUNNING", [11], 3)
    log.tracker.update_task_status(TASK, "COMPLETED")
    log.tracker.complete_workflow(RUN)
    assert log.tracker.task(TASK).status == "COMPLETED"
    assert log.runs()[0].state.value == "done"


def test_appended_events_have_ids_of_the_same_kind(log: RunLog) -> None:
    log.tracker.initiate_workflow("new", "new", 1, 2)
    with log.engine.connect() as connection:
        ids = connection.execute(text("SELECT originator_id FROM workflowtracker_events")).scalars()
        assert len({type(one) for one in ids}) == 1


def test_user_group_and_main_task_are_filled_in_though_the_run_is_named_by_text(log: RunLog) -> None:
    with log.engine.connect() as connection:
        (task,) = connection.execute(select(VIEWS.task_execution)).mappings()
        (run,) = connection.execute(select(VIEWS.workflow_progress)).mappings()
    assert (task["user_id"], task["group_id"], task["status"]) == (5, 7, "RUNNING")
    assert (run["main_task_name"], run["status"], run["progress"]) == ("cells", "JOB_RUNNING", "50%")
    assert log.job_accounting.get_jobs(user=5) == {5: [11]}
    assert log.job_accounting.get_task_id(11) == TASK


def test_events_of_newer_programs_are_shown_unchanged(log: RunLog) -> None:
    shown = {event.name: event.attributes for event in log.events(RUN)}
    assert shown["CanonicalInputsRecorded"] == {"export_task_id": TASK, "canonical_inputs": [{"image": 4}]}
    assert shown["StorageProvenanceRecorded"] == {"target_key": "a", "evidence": {}}
    unknown = [one for one in log.tracker.events.get(RUN) if isinstance(one, UnknownEvent)]
    assert [one.topic for one in unknown] == [f"{MODULE}:WorkflowRun.CanonicalInputsRecorded"]
    assert log.time_in_states(RUN)
    assert log.rebuild() == len(EVENTS)


def test_ids_may_be_text(log: RunLog) -> None:
    tracker: WorkflowTracker = log.tracker
    task = tracker.add_task_to_workflow(str(RUN), "SLURM_Get_Results.py", "v1", "in", {})
    tracker.start_task(str(task))
    tracker.add_job_id(str(task), 12)
    assert tracker.repository.get(str(RUN)).tasks == [TASK, task]
    assert tracker.repository.get(str(task)).workflow_id == RUN
    assert len(list(tracker.recorder.select_events(str(RUN)))) == 4
    tracker.complete_workflow(str(RUN))
    assert tracker.run(str(RUN)).state.is_terminal


def test_detached_runs_that_wait_are_named(log: RunLog) -> None:
    tracker = log.tracker
    params = {MARKER: "2.9.0", "workflows": ["cells", "spots"], "IDs": [3]}
    waiting, claimed, ended = (tracker.initiate_workflow(name, name, 5, 7) for name in ("a", "b", "c"))
    for run in (waiting, claimed, ended):
        task = tracker.add_task_to_workflow(run, "SLURM_Run_Workflow.py", "2.9.0", "[3]", params)
        if run == claimed:
            tracker.update_task_status(task, "CLAIMED")
    tracker.fail_workflow(ended, "no")
    tracker.add_task_to_workflow(RUN, "SLURM_Run_Workflow.py", "2.8.2", "[3]", {})
    found = {run.id: run for run in waiting_runs(log)}
    assert {key: one.claimed for key, one in found.items()} == {waiting: False, claimed: True}
    assert (found[waiting].workflows, found[waiting].user) == (("cells", "spots"), 5)
    assert str(found[waiting]).startswith(f"{waiting} (cells, spots) of user 5, ")


@pytest.mark.parametrize("name", ["SLURM_Get_Results.py", "SLURM_Import_Results.py"])
def test_postprocessing_is_shown_at_95_percent(log: RunLog, name: str) -> None:
    task = log.tracker.add_task_to_workflow(RUN, name, "v1", "in", {})
    log.tracker.update_task_status(task, "POSTPROCESSING")
    shown = log.workflow_progress.workflows[RUN]
    assert (shown["status"], shown["progress"]) == ("POSTPROCESSING", "95%")
