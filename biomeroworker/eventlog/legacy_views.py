"""Queries of the read tables for existing scripts, under the names of biomero."""

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
    """Base of the mapped classes. They map the tables of the event log."""

    metadata = metadata


class JobView(Base):
    """A job with its user, group and task."""

    __table__ = VIEWS.jobs


class JobProgressView(Base):
    """Status and progress of a job."""

    __table__ = VIEWS.job_progress


class WorkflowProgressView(Base):
    """Status and progress of a run."""

    __table__ = VIEWS.workflow_progress


class TaskExecution(Base):
    """Start, end and status of a task."""

    __table__ = VIEWS.task_execution


class _View:
    """Queries of the read tables, which are always up to date with the events."""

    def __init__(self, recorder: SQLRecorder) -> None:
        self.recorder = recorder

    @property
    def _engine(self) -> Engine:
        return self.recorder.engine

    def _rows(self, query: Select[Any]) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(query))


class JobAccounting(_View):
    """Jobs by user and group."""

    def get_jobs(self, user: int | None = None, group: int | None = None) -> dict[int | None, list[int]]:
        """Job ids by user. If only a group is given, all its jobs are under None."""
        jobs = VIEWS.jobs.c
        query = select(jobs.user, jobs.slurm_job_id).order_by(jobs.slurm_job_id)
        query = query.where(jobs.user == user) if user is not None else query
        query = query.where(jobs.group == group) if group is not None else query
        found: dict[int | None, list[int]] = defaultdict(list)
        for owner, job in self._rows(query):
            found[None if user is None and group is not None else owner].append(job)
        return dict(found)

    def get_task_id(self, job_id: int) -> UUID | None:
        """The task of a job."""
        rows = self._rows(select(VIEWS.jobs.c.task_id).where(VIEWS.jobs.c.slurm_job_id == int(job_id)))
        return rows[0].task_id if rows else None


class JobProgress(_View):
    """Status and progress of jobs."""

    @property
    def job_status(self) -> dict[int, dict[str, str | None]]:
        """Status and progress by job id."""
        return {
            row.slurm_job_id: {"status": row.status, "progress": row.progress}
            for row in self._rows(select(VIEWS.job_progress))
        }


class WorkflowProgress(_View):
    """Status and progress of runs."""

    @property
    def workflows(self) -> dict[UUID, dict[str, Any]]:
        """The row of each run, by its id."""
        return {row.workflow_id: dict(row._mapping) for row in self._rows(select(VIEWS.workflow_progress))}


class WorkflowAnalytics(_View):
    """Counts, durations and failures of tasks."""

    def _tasks(self, *columns: Any, user: int | None, group: int | None) -> Select[Any]:
        tasks = VIEWS.task_execution.c
        query = select(tasks.task_name, tasks.task_version, *columns)
        query = query.where(tasks.user_id == user) if user is not None else query
        return query.where(tasks.group_id == group) if group is not None else query

    def get_task_counts(self, user: int | None = None, group: int | None = None) -> dict[Named, int]:
        """The number of executions of each task, by name and version."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(func.count(), user=user, group=group).group_by(tasks.task_name, tasks.task_version)
        return {(name, version): count for name, version, count in self._rows(query)}

    def get_average_task_duration(self, user: int | None = None, group: int | None = None) -> dict[Named, float]:
        """Mean seconds from start to end of the tasks that have ended, by name and version."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(tasks.start_time, tasks.end_time, user=user, group=group)
        taken: dict[Named, list[float]] = defaultdict(list)
        for name, version, start, end in self._rows(query.where(tasks.end_time.is_not(None))):
            taken[name, version].append((end - start).total_seconds())
        return {named: sum(seconds) / len(seconds) for named, seconds in taken.items()}

    def get_task_failures(self, user: int | None = None, group: int | None = None) -> dict[Named, list[str]]:
        """The messages of the tasks that failed, by name and version."""
        tasks = VIEWS.task_execution.c
        query = self._tasks(tasks.error_type, user=user, group=group).where(tasks.error_type.is_not(None))
        found: dict[Named, list[str]] = defaultdict(list)
        for name, version, message in self._rows(query.order_by(tasks.start_time)):
            found[name, version].append(message)
        return dict(found)

    def get_task_usage_over_time(
        self, task_name: str, user: int | None = None, group: int | None = None
    ) -> dict[date, int]:
        """The number of starts of a task, by day (UTC)."""
        tasks = VIEWS.task_execution.c
        found: dict[date, int] = defaultdict(int)
        query = self._tasks(tasks.start_time, user=user, group=group).where(tasks.task_name == task_name)
        for _, _, start in self._rows(query.order_by(tasks.start_time)):
            found[start.date()] += 1
        return dict(found)
