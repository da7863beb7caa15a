"""A change of a run and its tasks, which are loaded, changed and saved together."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.task import Task
from biomeroworker.eventlog.tracker import WorkflowTracker


class RunUnitOfWork:
    """A run and the tasks that a change uses.

    The id of a task is derived from the id of the run and the role, so a step that is repeated finds its task.
    """

    def __init__(self, tracker: WorkflowTracker, run_id: UUID) -> None:
        self._tracker = tracker
        self.run, self._tasks = tracker.run_with_tasks(run_id)

    def task(self, role: str) -> Task | None:
        """The task of the run for this role, or None if it has not started."""
        task_id = uuid5(self.run.id, role)
        if task_id not in self._tasks and task_id in self.run.tasks:
            self._tasks[task_id] = self._tracker.task(task_id)
        return self._tasks.get(task_id)

    def begin_task(
        self, role: str, name: str, version: str, inputs: Any, params: Mapping[str, Any], *, started: bool = True
    ) -> None:
        """Create the task for this role, once, and start it if ``started``."""
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
        """Record success of the task for this role, once."""
        task = self.task(role)
        if task is not None:
            task.succeed(result)

    def fail_tasks(self, message: str) -> None:
        """Record failure of all tasks that have not ended."""
        for task_id in self.run.tasks:
            task = self._tasks.get(task_id) or self._tracker.task(task_id)
            if not task.ended:
                self._tasks[task_id] = task
                task.fail(message)

    def commit(self) -> WorkflowRun:
        """Save everything in one transaction, the run last; returns a copy of the run. Do not use this object again."""
        saved = copy.deepcopy(self.run)
        saved.collect_events()
        self._tracker.save_and_cache(*self._tasks.values(), self.run)
        return saved
