"""The tables of dashboards, with each database: status words, and rebuilds."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import Notification
from sqlalchemy import Connection, delete, insert, select, text, update

from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store import recorder as recorder_module
from biomeroworker.eventlog.tables import EVENTS, TRACKING, VIEWS
from tests.log_steps import accept, bring_to, newest, rows, see, walk


def test_dashboards_see_the_status_words_of_the_incumbent(log: RunLog) -> None:
    run = accept(log)
    words = [("INITIALIZING", "0%", None)]
    for _ in walk(log, run):
        (line,) = rows(log)["biomero_workflow_progress_view"]
        word = (line["status"], line["progress"], line["task"])
        if word != words[-1]:
            words.append(word)
    assert words == [
        ("INITIALIZING", "0%", None),
        ("TRANSFERRING", "5%", "_SLURM_Image_Transfer.py"),
        ("TRANSFERRING", "5%", "nuclei"),
        ("JOB_PENDING", "50%", "nuclei"),
        ("JOB_RUNNING", "67.2%", "nuclei"),
        ("JOB_COMPLETED", "90.0%", "nuclei"),
        ("RETRIEVING", "90%", "SLURM_Get_Results.py"),
        ("IMPORTING", "90%", "SLURM_Import_Results.py"),
        ("DONE", "100%", "SLURM_Import_Results.py"),
    ]
    assert line["main_task_name"] == "nuclei"
    assert (line["user"], line["group"], line["name"]) == (4, 3, "Nuclei of dataset 7")


def test_dashboards_see_jobs_with_user_and_group(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING, job_id=555)
    (job,) = rows(log)["biomero_job_view"]
    (progress,) = rows(log)["biomero_job_progress_view"]
    assert (job["slurm_job_id"], job["user"], job["group"]) == (555, 4, 3)
    assert progress == {"slurm_job_id": 555, "status": "RUNNING", "progress": "43%"}
    tasks = {row["task_id"]: row for row in rows(log)["biomero_task_execution"]}
    task = tasks[job["task_id"]]
    assert (task["task_name"], task["task_version"], task["status"]) == ("nuclei", "v1.0.0", "RUNNING")
    assert (task["user_id"], task["group_id"], task["end_time"]) == (4, 3, None)
    assert log.job_accounting.get_task_id(555) == job["task_id"]
    assert log.job_accounting.get_jobs() == {4: [555]}
    assert log.job_accounting.get_jobs(group=3) == {None: [555]}
    assert log.job_accounting.get_jobs(user=5) == {}


def test_dashboards_show_a_cancelled_run_as_ended(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    log.request_cancel(run, "ada")
    log.cancelled(run, {"message": "cancelled by ada"})
    (line,) = rows(log)["biomero_workflow_progress_view"]
    assert line["status"] == "FAILED"


def test_the_projection_position_equals_the_last_event_after_every_write(log: RunLog) -> None:
    run = accept(log)
    for _ in walk(log, run):
        with log._engine.connect() as connection:
            assert connection.execute(select(TRACKING.c.notification_id)).scalar_one() == newest(log)


def test_a_rebuild_creates_the_same_rows(log: RunLog) -> None:
    done, failed, going = accept(log), accept(log), accept(log)
    bring_to(log, done, RunState.DONE, 1)
    bring_to(log, failed, RunState.RUNNING, 2)
    log.fail(failed, {"message": "out of memory"})
    bring_to(log, going, RunState.QUEUED, 3)
    log.fault(going, RunState.QUEUED, attempt=1, kind="transient", message="no answer")
    log.pause(going, "no answer for hours", RunState.QUEUED)
    before = rows(log)
    with log._recorder.writing() as connection:
        for table in VIEWS.all():
            connection.execute(delete(table))
        connection.execute(insert(VIEWS.job_progress).values(slurm_job_id=77, status="LEFT OVER"))
    assert log.rebuild() == newest(log)
    assert rows(log) == before
    assert log.rebuild() == newest(log), "and again: nothing was left lying about"


def test_a_rebuild_includes_events_recorded_just_before_its_swap(
    log: RunLog, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    after = log._recorder._after
    late: list[bool] = []

    def just_in_time(connection: Connection, position: int) -> list[Notification]:
        events = after(connection, position)
        if not events and not late:  # the rebuild believes that it has read everything, and takes the lock next
            with RunLog.open(log_url) as other:
                late.append(see(other, run, "RUNNING", node="node-1", progress="99"))
        return events

    monkeypatch.setattr(log._recorder, "_after", just_in_time)
    log.rebuild()
    assert late == [True]
    assert rows(log)["biomero_job_progress_view"][0]["progress"] == "99%"


def test_a_rebuild_runs_beside_a_writer(log: RunLog, log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BATCH_EVENTS", 3)
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    stop = threading.Event()
    trouble: list[BaseException] = []

    def keep_writing() -> None:
        try:
            with RunLog.open(log_url) as other:
                for percent in range(44, 100):
                    if stop.is_set():
                        break
                    see(other, run, "RUNNING", node="node-1", progress=str(percent))
        except BaseException as error:
            trouble.append(error)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    for _ in range(5):
        log.rebuild()
    stop.set()
    writer.join(60)
    assert trouble == []
    live = rows(log)
    log.rebuild()
    assert rows(log) == live


def test_events_of_another_program_are_projected_with_the_next_write(log: RunLog) -> None:
    run = accept(log)
    stranger = uuid4()
    state = (
        b'{"timestamp":{"_type_":"datetime_iso","_data_":"2026-11-20T11:20:46.981760+00:00"},'
        b'"originator_topic":"biomero.eventsourcing:WorkflowRun","name":"theirs","description":"","user":9,"group":8}'
    )
    with log._engine.begin() as connection:
        connection.execute(
            insert(EVENTS).values(
                originator_id=stranger,
                originator_version=0,
                topic="biomero.eventsourcing:WorkflowRun.WorkflowInitiated",
                state=state,
            )
        )
    log.intend(run, RunState.EXPORTING)
    lines = {row["workflow_id"]: row for row in rows(log)["biomero_workflow_progress_view"]}
    assert (lines[stranger]["name"], lines[stranger]["status"]) == ("theirs", "INITIALIZING")
    assert lines[stranger]["start_time"] == datetime(2026, 11, 20, 11, 20, 46, 981760)
    assert log.unfinished() == [run], "a run that was not accepted here is not executed here"


def test_projection_tables_of_another_version_are_rebuilt(log: RunLog, log_url: str) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    before = rows(log)
    with log._recorder.writing() as connection:
        connection.execute(update(TRACKING).values(version=0))
        connection.execute(text("DROP TABLE biomeroworker_run"))
        connection.execute(text("CREATE TABLE biomeroworker_run (run_id TEXT PRIMARY KEY)"))
    with RunLog.open(log_url) as again:
        assert rows(again) == before
        assert again.unfinished() == [run]


def test_times_are_utc_in_any_time_zone(log: RunLog, log_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    with RunLog.open(log_url) as other:
        run = accept(other)
        stored = rows(other)["biomero_workflow_progress_view"][0]["start_time"]
        assert abs((datetime.now(UTC).replace(tzinfo=None) - stored).total_seconds()) < 60
        assert other.runs()[0].started == other.run(run).created_on


def test_one_more_event_costs_the_same_after_a_long_history(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    read: list[int] = []
    for name in ("select_events", "events_after"):
        select_events = getattr(log._recorder, name)

        def counting(*args: Any, select_events: Any = select_events, **kwargs: Any) -> Any:
            events = select_events(*args, **kwargs)
            read.append(len(events))
            return events

        monkeypatch.setattr(log._recorder, name, counting)
    for number in range(120):
        log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=f"fault {number}")
    assert max(read[-60:]) <= 1, "events already seen are not read again"
    assert sum(read[-60:]) <= 60
