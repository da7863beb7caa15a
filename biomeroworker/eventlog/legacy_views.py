"""What existing scripts and shells ask of the read tables, under the names they know."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import DeclarativeBase

from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import VIEWS, metadata

Named = tuple[str, str | None]


class Base(DeclarativeBase):
    """Base of the mapped classes; the tables are those of the log."""

    metadata = metadata


class JobView(Base):
    """A job and whose it is."""

    __table__ = VIEWS.jobs


class JobProgressView(Base):
    """How far a job is."""

    __table__ = VIEWS.job_progress


class WorkflowProgressView(Base):
    """How far a run is."""

    __table__ = VIEWS.workflow_progress


class TaskExecution(Base):
    """When a task began and ended, and how."""

    __table__ = VIEWS.task_execution


class _View:
    """Questions to the read tables. They are never behind the events, so there is nothing to bring up to date."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self.recorder = recorder

    @property
    def _engine(self) -> Engine:
        return self.recorder.engine

    def _rows(self, query: Select[Any]) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(query))


class JobAccounting(_View):
    """Whose jobs there are."""

    def get_jobs(self, user: int | None = None, group: int | None = None) -> dict[int | None, list[int]]:
        """Job ids by user; where only a group is asked for, its jobs under None."""
        jobs = VIEWS.jobs.c
        query = select(jobs.user, jobs.slurm_job_id).order_by(jobs.slurm_job_id)
        query = query.where(jobs.user == user) if user is not None else query
        query = query.where(jobs.group == group) if group is not None else query
        found: dict[int | None, list[int]] = defaultdict(list)
        for owner, job in self._rows(query):
            found[None if user is None and group is not None else owner].append(job)
        return dict(found)

    def get_task_id(self, job_id: int) -> UUID | None:
        """The task that a job belongs to."""
        rows = self._rows(select(VIEWS.jobs.c.task_id).where(VIEWS.jobs.c.slurm_job_id == int(job_id)))
        return rows[0].task_id if rows else None


class JobProgress(_View):
    """How far jobs are."""

    @property
    def job_status(self) -> dict[int, dict[str, str | None]]:
        """Status and progress by job id."""
        return {
            row.slurm_job_id: {"status": row.status, "progress": row.progress}
            for row in self._rows(select(VIEWS.job_progress))
        }


class WorkflowProgress(_View):
    """How far runs are."""

    @property
    def workflows(self) -> dict[UUID, dict[str, Any]]:
        """The line of each run by its id."""
        return {row.workflow_id: dict(row._mapping) for row in self._rows(select(VIEWS.workflow_progress))}


class WorkflowAnalytics(_View):
    """How often tasks ran, how long they took, how they failed."""

    def _tasks(self, *columns: Any, user: int | None, group: int | None) -> Select[Any]:
        tasks = VIEWS.task_execution.c
        query = select(tasks.task_name, tasks.task_version, *columns)
        query = query.where(tasks.user_id == user) if user is not None else query
        return query.where(tasks.group_id == group) if group is not None else query

    def get_task_counts(self, user: int | None = None, group: int | None = None) -> dict[Named, int]:
        """How often each task ran, by name and version."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(func.count(), user=user, group=group).group_by(tasks.task_name, tasks.task_version)
        return {(name, version): count for name, version, count in self._rows(query)}

    def get_average_task_duration(self, user: int | None = None, group: int | None = None) -> dict[Named, float]:
        """Seconds from beginning to end, on average over the tasks that ended."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(tasks.start_time, tasks.end_time, user=user, group=group)
        taken: dict[Named, list[float]] = defaultdict(list)
        for name, version, start, end in self._rows(query.where(tasks.end_time.is_not(None))):
            taken[name, version].append((end - start).total_seconds())
        return {named: sum(seconds) / len(seconds) for named, seconds in taken.items()}

    def get_task_failures(self, user: int | None = None, group: int | None = None) -> dict[Named, list[str]]:
        """The messages of the tasks that failed."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(tasks.error_type, user=user, group=group).where(tasks.error_type.is_not(None))
        found: dict[Named, list[str]] = defaultdict(list)
        for name, version, message in self._rows(query.order_by(tasks.start_time)):
            found[name, version].append(message)
        return dict(found)

    def get_task_usage_over_time(
        self, task_name: str, user: int | None = None, group: int | None = None
    ) -> dict[date, int]:
        """How often a task began, by day (UTC)."""
        tasks = VIEWS.task_execution.c
        found: dict[date, int] = defaultdict(int)
        query = self._tasks(tasks.start_time, user=user, group=group).where(tasks.task_name == task_name)
        for _, _, start in self._rows(query.order_by(tasks.start_time)):
            found[start.date()] += 1
        return dict(found)
