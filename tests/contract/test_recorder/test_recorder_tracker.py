"""The programming interface of existing scripts, with each database."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID

import pytest

from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.recorder import APPLICATION
from tests.log_steps import newest, rows


def _a_run(log: RunLog) -> tuple[UUID, UUID]:
    tracker = log.tracker
    run = tracker.initiate_workflow("Slurm Workflow", "cellpose", 4, 5)
    tracker.start_workflow(run)
    task = tracker.add_task_to_workflow(run, "cellpose", "v1.2.7", "folder", {"diameter": 4})
    tracker.start_task(task)
    tracker.add_job_id(task, 3003)
    return run, task


def _topics(log: RunLog) -> list[str]:
    return [item.topic for item in log.tracker.notification_log.select(start=1, limit=10)]


def test_the_events_of_a_script_have_the_topics_of_existing_databases(log: RunLog) -> None:
    run, task = _a_run(log)
    log.tracker.update_task_status(task, "RUNNING")
    log.tracker.update_task_progress(task, "43%")
    log.tracker.complete_task(task, "ok")
    log.tracker.complete_workflow(run)
    prefix = "biomero.eventsourcing:"
    assert _topics(log) == [
        prefix + name
        for name in (
            "WorkflowRun.WorkflowInitiated", "WorkflowRun.WorkflowStarted", "Task.TaskCreated",
            "WorkflowRun.TaskAdded", "Task.TaskStarted", "Task.JobIdAdded", "Task.StatusUpdated",
            "Task.ProgressUpdated", "Task.TaskCompleted", "WorkflowRun.WorkflowCompleted",
        )
    ]  # fmt: skip
    (line,) = rows(log)["biomero_workflow_progress_view"]
    assert (line["status"], line["progress"], line["main_task_name"]) == ("DONE", "100%", "cellpose")


def test_the_stored_form_is_that_of_existing_databases(log: RunLog) -> None:
    _, task = _a_run(log)
    first, *_, last = log.tracker.recorder.select_events(task)
    assert first.originator_version == 0
    assert b'"originator_topic":"biomero.eventsourcing:Task"' in first.state
    assert b'"workflow_id":{"_type_":"uuid_hex","_data_":"' in first.state
    assert last.state.startswith(b'{"timestamp":{"_type_":"datetime_iso","_data_":"')
    assert last.state.endswith(b'"job_id":3003}')


def test_scripts_read_what_they_recorded(log: RunLog) -> None:
    run, task = _a_run(log)
    log.tracker.add_result(task, SimpleNamespace(command="sbatch x", env={"TOKEN": "s3cret"}, stdout="ok", stderr=""))
    seen = log.tracker.repository.get(task)
    assert (seen.task_name, seen.task_version, seen.params) == ("cellpose", "v1.2.7", {"diameter": 4})
    assert (seen.input_data, seen.job_ids) == ("folder", [3003])
    assert seen.results == [{"command": "sbatch x", "env": {}, "stdout": "ok", "stderr": ""}]
    assert log.tracker.repository.get(run).tasks == [task]
    assert log.workflow_progress.recorder.max_tracking_id(application_name=APPLICATION) == newest(log)


def test_a_poll_without_a_change_writes_nothing(log: RunLog) -> None:
    _, task = _a_run(log)
    log.tracker.update_task_status(task, "RUNNING")
    log.tracker.update_task_progress(task, "43%")
    before = newest(log)
    for _ in range(3):
        log.tracker.update_task_status(task, "RUNNING")
        log.tracker.update_task_progress(task, "43%")
    assert newest(log) == before


def test_an_ended_task_does_not_change(log: RunLog, caplog: pytest.LogCaptureFixture) -> None:
    run, task = _a_run(log)
    log.tracker.fail_task(task, "out of memory")
    log.tracker.fail_workflow(run, "task failed")
    before = newest(log)
    log.tracker.complete_task(task, "ok")
    log.tracker.complete_workflow(run)
    assert newest(log) == before
    assert log.run(run).state is RunState.FAILED
    assert "is already failed" in caplog.text


def test_the_status_of_tasks_can_be_queried(log: RunLog) -> None:
    _, task = _a_run(log)
    log.tracker.fail_task(task, "out of memory")
    named = ("cellpose", "v1.2.7")
    assert log.workflow_analytics.get_task_counts(user=4) == {named: 1}
    assert log.workflow_analytics.get_task_counts(user=5) == {}
    assert log.workflow_analytics.get_task_failures() == {named: ["out of memory"]}
    assert 0 <= log.workflow_analytics.get_average_task_duration()[named] < 60
    assert list(log.workflow_analytics.get_task_usage_over_time("cellpose").values()) == [1]


def test_the_environment_of_other_programs_changes_nothing(log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSISTENCE_MODULE", "eventsourcing_sqlalchemy")
    monkeypatch.setenv("COMPRESSOR_TOPIC", "zlib")
    with RunLog.open(log_url) as log:
        _a_run(log)
        assert newest(log) > 0
