"""Projections: how each event changes the read tables.

A handler uses only its event and the rows. No other state exists between events, so any process can project any event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from biomeroworker.domain.constants import (
    IMAGE_EXPORT_SCRIPT,
    IMAGE_IMPORT_SCRIPT,
    IMAGE_IMPORT_TASK,
    RUN_WF_SCRIPT,
    workflow_status,
)
from biomeroworker.eventlog.aggregates.states import RunState, after_observation
from biomeroworker.eventlog.projections.row_cache import RowCache

#: Increase it when a handler or a read table changes. Read tables of another version are made again from the events.
VERSION = 2

Handler = Callable[[RowCache, UUID, Mapping[str, Any], datetime], None]

_HELPERS = ("_slurm_", "slurm_", "convert_")
#: The tasks that import results and make ROIs.
_IMPORTERS = (IMAGE_IMPORT_SCRIPT.lower(), IMAGE_IMPORT_TASK.lower())


def project(rows: RowCache, topic: str, subject: UUID, attributes: Mapping[str, Any]) -> None:
    """Apply one event to the rows. Events without a handler, also unknown ones, change nothing."""
    handler = _HANDLERS.get(topic.partition(":")[2])
    if handler is None:
        return
    when: datetime = attributes["timestamp"]
    handler(rows, subject, attributes, when.astimezone(UTC).replace(tzinfo=None))


def affected_rows(events: Iterable[tuple[str, UUID, Mapping[str, Any]]]) -> tuple[set[UUID], set[UUID]]:
    """The runs and tasks whose existing rows these events (topic, subject, attributes) need."""
    runs: set[UUID] = set()
    tasks: set[UUID] = set()
    made: set[UUID] = set()
    for topic, subject, attributes in events:
        kind, _, name = topic.partition(":")[2].partition(".")
        if name in ("WorkflowInitiated", "TaskCreated"):
            made.add(subject)
        (runs if kind == "WorkflowRun" else tasks).add(subject)
        if name == "TaskCreated":
            runs.add(_workflow_of(attributes))
    return runs - made, tasks - made


# -- the run ----------------------------------------------------------------------------------------------------------


def _workflow_initiated(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    rows.put(
        rows.views.workflow_progress, run,
        status=workflow_status.INITIALIZING, progress="0%", user=event["user"], group=event["group"],
        name=event["name"], task=None, main_task_name=None, start_time=when,
    )  # fmt: skip
    rows.put(
        rows.views.runs, run,
        name=event["name"], workflow="", state=RunState.ACCEPTED.value, paused=False, pause_reason="",
        cancel_requested=False, user=event["user"], group=event["group"], attempt=0, job_id=None, started=when,
        modified=when, ended=None, message="", carried=False,
    )  # fmt: skip


def _run(rows: RowCache, run: UUID, when: datetime, **values: Any) -> None:
    """Change the row of a run, if it exists."""
    if rows.get(rows.views.runs, run) is not None:
        rows.put(rows.views.runs, run, modified=when, **values)


def _progress(rows: RowCache, run: UUID, **values: Any) -> None:
    if rows.get(rows.views.workflow_progress, run) is not None:
        rows.put(rows.views.workflow_progress, run, **values)


def _run_accepted(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, carried=True, workflow=str(event["request"].get("workflow", "")))


def _workflow_started(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    row = rows.get(rows.views.runs, run)
    if row is not None and not row["carried"] and row["ended"] is None:
        _run(rows, run, when, state=RunState.RUNNING.value)


def _workflow_completed(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _progress(rows, run, status=workflow_status.DONE, progress="100%")
    message = str((event.get("summary") or {}).get("message", ""))  # of a run that succeeded partly
    _run(rows, run, when, state=RunState.DONE.value, ended=when, paused=False, pause_reason="", message=message)


def _workflow_failed(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _progress(rows, run, status=workflow_status.FAILED)
    message = str(event["error_message"])
    _run(rows, run, when, state=RunState.FAILED.value, ended=when, paused=False, pause_reason="", message=message)


def _run_cancelled(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    # dashboards have no state for it, and show each state but DONE and FAILED as active
    _progress(rows, run, status=workflow_status.FAILED)
    message = str(event["report"].get("message", "cancelled"))
    _run(rows, run, when, state=RunState.CANCELLED.value, ended=when, paused=False, pause_reason="", message=message)


def _stage_intended(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, state=event["stage"])


def _attempt_started(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, attempt=event["number"], job_id=None)


def _job_submitted(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, state=RunState.QUEUED.value, job_id=event["job_id"], message="")


def _job_observed(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    row = rows.get(rows.views.runs, run)
    if row is not None:
        state = after_observation(RunState(row["state"]), event["state"])
        _run(rows, run, when, state=state.value, message="")


def _stage_completed(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, message="")


def _fault_met(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, message=event["message"])


def _run_paused(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, paused=True, pause_reason=event["reason"])


def _run_resumed(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, paused=False, pause_reason="", message="")


def _cancel_requested(rows: RowCache, run: UUID, event: Mapping[str, Any], when: datetime) -> None:
    _run(rows, run, when, cancel_requested=True, paused=False, pause_reason="")


def _workflow_of(event: Mapping[str, Any]) -> UUID:
    """The run of a new task. Scripts that got the id as a parameter recorded it as text."""
    run = event["workflow_id"]
    return run if isinstance(run, UUID) else UUID(str(run))


# -- its tasks --------------------------------------------------------------------------------------------------------


def _task_created(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    run = _workflow_of(event)
    name = str(event["task_name"])
    owner = rows.get(rows.views.runs, run) or {}
    rows.put(rows.views.tasks, task, run_id=run, name=name, status=None, progress=None, job_id=None)
    rows.put(
        rows.views.task_execution, task,
        task_name=name, task_version=str(event["task_version"]), user_id=owner.get("user"),
        group_id=owner.get("group"), status="CREATED", start_time=when, end_time=None, error_type=None,
    )  # fmt: skip
    shown: dict[str, Any] = {"task": name}
    progress = rows.get(rows.views.workflow_progress, run)
    if progress is not None and progress["main_task_name"] is None and not name.lower().startswith(_HELPERS):
        shown["main_task_name"] = name
        if owner and not owner["workflow"]:
            rows.put(rows.views.runs, run, workflow=name)
    _progress(rows, run, **shown, **_words(name, None, None))


def _job_id_added(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    row = rows.get(rows.views.tasks, task)
    job = _number(event["job_id"])
    if row is None or job is None:
        return
    rows.put(rows.views.tasks, task, job_id=job)
    owner = rows.get(rows.views.runs, row["run_id"])
    if owner is not None:
        rows.put(rows.views.jobs, job, user=owner["user"], group=owner["group"], task_id=task)
        _run(rows, row["run_id"], when, job_id=job)


def _status_updated(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    rows_task = rows.get(rows.views.tasks, task)
    if rows_task is None:
        return
    status = str(event["status"])
    rows.put(rows.views.tasks, task, status=status)
    rows.put(rows.views.task_execution, task, status=status)
    if rows_task["job_id"] is not None:
        rows.put(rows.views.job_progress, rows_task["job_id"], status=status)
    _show(rows, task)


def _progress_updated(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    row = rows.get(rows.views.tasks, task)
    if row is None:
        return
    progress = event["progress"]
    rows.put(rows.views.tasks, task, progress=progress)
    if row["job_id"] is not None:
        rows.put(rows.views.job_progress, row["job_id"], status=row["status"] or "UNKNOWN", progress=progress)
    _show(rows, task)


def _task_completed(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    if rows.get(rows.views.task_execution, task) is not None:
        rows.put(rows.views.task_execution, task, end_time=when)


def _task_failed(rows: RowCache, task: UUID, event: Mapping[str, Any], when: datetime) -> None:
    if rows.get(rows.views.task_execution, task) is not None:
        message = str(event["error_message"])
        rows.put(rows.views.task_execution, task, end_time=when, status="FAILED", error_type=message)


# -- texts ------------------------------------------------------------------------------------------------------------


def _show(rows: RowCache, task: UUID) -> None:
    """Copy status and progress of a task to the row of its run."""
    row = rows.get(rows.views.tasks, task)
    if row is None:
        return
    run = rows.get(rows.views.runs, row["run_id"])
    if run is not None and run["ended"] is None:
        _progress(rows, row["run_id"], task=row["name"], **_words(row["name"], row["status"], row["progress"]))


def _words(name: str, status: str | None, progress: str | None) -> dict[str, str]:
    """Status and progress of a run for dashboards while a task of this name is active, in the words of biomero.

    A run goes from 0 to 100 %. Its job has the part from 50 to 90 %: 43 % of the job are ``67.2%`` of the run.
    """
    lower = name.lower()
    if lower == IMAGE_EXPORT_SCRIPT.lower():
        return {"status": workflow_status.TRANSFERRING, "progress": "5%"}
    if lower.startswith("convert_"):
        return {"status": workflow_status.CONVERTING, "progress": "25%"}
    if lower == RUN_WF_SCRIPT.lower():
        return {"status": workflow_status.RUNNING, "progress": "50%"}
    if status == workflow_status.POSTPROCESSING and lower in _IMPORTERS:
        return {"status": status, "progress": "95%"}
    if lower == IMAGE_IMPORT_SCRIPT.lower():
        return {"status": workflow_status.RETRIEVING, "progress": "90%"}
    if lower == IMAGE_IMPORT_TASK.lower():
        word = {None: workflow_status.IMPORTING, "RUNNING": workflow_status.IMPORTING}.get(status, status)
        return {"status": workflow_status.IMPORTED if word == "COMPLETED" else str(word), "progress": "90%"}
    if status is None:
        return {}
    return {"status": f"{workflow_status.JOB_STATUS}{status}", "progress": _share(progress)}


def _share(progress: str | None) -> str:
    try:
        part = float(str(progress).strip().removesuffix("%"))
    except ValueError:
        return "50%"
    return f"{50 + 0.4 * min(max(part, 0.0), 100.0):.1f}%"


def _number(job_id: Any) -> int | None:
    try:
        number = int(job_id)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < 2**31 else None  # the columns have 32 bits; -1 means no job


_HANDLERS: dict[str, Handler] = {
    "WorkflowRun.WorkflowInitiated": _workflow_initiated,
    "WorkflowRun.WorkflowStarted": _workflow_started,
    "WorkflowRun.WorkflowCompleted": _workflow_completed,
    "WorkflowRun.WorkflowFailed": _workflow_failed,
    "WorkflowRun.RunAccepted": _run_accepted,
    "WorkflowRun.StageIntended": _stage_intended,
    "WorkflowRun.StageCompleted": _stage_completed,
    "WorkflowRun.AttemptStarted": _attempt_started,
    "WorkflowRun.JobSubmitted": _job_submitted,
    "WorkflowRun.JobObserved": _job_observed,
    "WorkflowRun.FaultMet": _fault_met,
    "WorkflowRun.RunPaused": _run_paused,
    "WorkflowRun.RunResumed": _run_resumed,
    "WorkflowRun.CancelRequested": _cancel_requested,
    "WorkflowRun.RunCancelled": _run_cancelled,
    "Task.TaskCreated": _task_created,
    "Task.JobIdAdded": _job_id_added,
    "Task.StatusUpdated": _status_updated,
    "Task.ProgressUpdated": _progress_updated,
    "Task.TaskCompleted": _task_completed,
    "Task.TaskFailed": _task_failed,
}
