"""The Task aggregate: one step of a run, as existing dashboards show it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.domain import Aggregate, event

from biomeroworker.eventlog.aggregates.states import NotAllowed

TOPIC = "biomero.eventsourcing:Task"


class ResultDict(dict[str, Any]):
    """The result of a command, from any object with ``command``, ``env``, ``stdout`` and ``stderr``."""

    def __init__(self, result: Any) -> None:
        super().__init__(
            command=getattr(result, "command", ""),
            env=getattr(result, "env", None) or {},
            stdout=getattr(result, "stdout", ""),
            stderr=getattr(result, "stderr", ""),
        )


class Task(Aggregate):
    """One step of a run: its name and version, its inputs, its jobs, and how it ended.

    Names of events and attributes are those of existing databases. The methods with an event's name in their decorator
    always record it, as callers of the original interface expect; the methods below them record changes only.
    """

    TOPIC = TOPIC
    INITIAL_VERSION = 0

    class Event(Aggregate.Event):
        """Base of the events below."""

        TOPIC = f"{TOPIC}.Event"

    class Created(Event, Aggregate.Created):
        """Base of the first event; the library wants it to have a topic of its own."""

        TOPIC = f"{TOPIC}.Created"

    @event("TaskCreated", topic=f"{TOPIC}.TaskCreated")
    def __init__(
        self, workflow_id: UUID, task_name: str, task_version: str, input_data: dict[str, Any], params: dict[str, Any]
    ) -> None:
        # scripts that got the run's id as a parameter recorded it as text
        self.workflow_id = workflow_id if isinstance(workflow_id, UUID) else UUID(workflow_id)
        self.task_name = task_name
        self.task_version = task_version
        self.input_data = input_data
        self.params = params
        self.job_ids: list[int | str] = []
        self.results: list[dict[str, Any]] = []
        self.result_message: str | None = None
        self.status: str | None = None
        self.progress: str | None = None
        self.ended = False

    @event("JobIdAdded", topic=f"{TOPIC}.JobIdAdded")
    def add_job_id(self, job_id: int | str) -> None:
        """Record the id of the task's job."""
        self.job_ids.append(job_id)

    @event("StatusUpdated", topic=f"{TOPIC}.StatusUpdated")
    def update_task_status(self, status: str) -> None:
        """Record the scheduler's state of the job."""
        self.status = status

    @event("ProgressUpdated", topic=f"{TOPIC}.ProgressUpdated")
    def update_task_progress(self, progress: str | None) -> None:
        """Record the progress that the job reports."""
        self.progress = progress

    @event("ResultAdded", topic=f"{TOPIC}.ResultAdded")
    def _add_result(self, result: dict[str, Any]) -> None:
        self.results.append(result)

    @event("TaskStarted", topic=f"{TOPIC}.TaskStarted")
    def start_task(self) -> None:
        """Record that the task was started."""

    @event("TaskCompleted", topic=f"{TOPIC}.TaskCompleted")
    def complete_task(self, result: str) -> None:
        """Record that the task succeeded."""
        self.result_message = result
        self.ended = True

    @event("TaskFailed", topic=f"{TOPIC}.TaskFailed")
    def fail_task(self, error_message: str) -> None:
        """Record that the task failed."""
        self.result_message = error_message
        self.ended = True

    # -- record changes only ------------------------------------------------------------------------------------------

    def add_result(self, result: Any) -> None:
        """Record the result of a command, without its environment, which may hold secrets."""
        recorded = ResultDict(result)
        recorded["env"] = {}
        self._add_result(recorded)

    def begin(self) -> None:
        """Record that the task was started and runs."""
        self.start_task()
        self.update_task_status("RUNNING")

    def submitted(self, job_id: int) -> None:
        """Record the id of the task's job, once."""
        if self.job_ids == [job_id]:
            return
        if self.job_ids:
            raise NotAllowed(f"task {self.id} is job {self.job_ids[-1]} already")
        self.add_job_id(job_id)

    def observed(self, status: str, progress: str | None) -> None:
        """Record the scheduler's state and the job's progress, if they changed."""
        if self.ended:
            return
        if status and status != self.status:
            self.update_task_status(status)
        if progress is not None and progress != self.progress:
            self.update_task_progress(progress)

    def succeed(self, result: str) -> None:
        """Record success, once."""
        if not self.ended:
            self.observed("COMPLETED", None)
            self.complete_task(result)

    def fail(self, message: str) -> None:
        """Record failure, once."""
        if not self.ended:
            self.observed("FAILED", None)
            self.fail_task(message)
