"""A change to a run: the run and its tasks, loaded, changed and saved together."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.task import Task
from biomeroworker.eventlog.tracker import WorkflowTracker


class RunUnitOfWork:
    """A run and those of its tasks that a change touches, to be saved together.

    The ids of a run's tasks follow from the run's own, so that a step that is taken twice finds its task.
    """

    def __init__(self, tracker: WorkflowTracker, run_id: UUID) -> None:
        self._tracker = tracker
        self.run, self._tasks = tracker.run_with_tasks(run_id)

    def task(self, role: str) -> Task | None:
        """The run's task for this role, if it has begun."""
        task_id = uuid5(self.run.id, role)
        if task_id not in self._tasks and task_id in self.run.tasks:
            self._tasks[task_id] = self._tracker.task(task_id)
        return self._tasks.get(task_id)

    def begin_task(
        self, role: str, name: str, version: str, inputs: Any, params: Mapping[str, Any], *, started: bool = True
    ) -> None:
        """Begin the task for this role, once."""
        if self.task(role) is not None:
            return
        task: Task = Task._create(
            Task.TaskCreated,  # type: ignore[attr-defined]  # made by the decorator
            id=uuid5(self.run.id, role),
            workflow_id=self.run.id,
            task_name=name,
            task_version=version,
            input_data=inputs,
            params=dict(params),
        )
        self._tasks[task.id] = task
        self.run.add_task(task.id)
        if started:
            task.begin()

    def end_task(self, role: str, result: str) -> None:
        """End the task for this role well, once."""
        task = self.task(role)
        if task is not None:
            task.succeed(result)

    def fail_tasks(self, message: str) -> None:
        """Whatever is still open ends badly."""
        for task_id in self.run.tasks:
            task = self._tasks.get(task_id) or self._tracker.task(task_id)
            if not task.ended:
                self._tasks[task_id] = task
                task.fail(message)

    def commit(self) -> WorkflowRun:
        """Save all in one transaction, the run last, and return a copy of the run; this object is used up then."""
        saved = copy.deepcopy(self.run)
        saved.collect_events()
        self._tracker.save_and_cache(*self._tasks.values(), self.run)
        return saved
