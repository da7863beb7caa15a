"""The read tables: who ran what, how far it is, how long it took.

The tables are written in the transaction of each event, so they are never behind. `JobAccounting` and the other views
read them; old programs may put them behind a `WorkflowTracker` in an eventsourcing ``System``.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.application import NotificationLog
from eventsourcing.persistence import Mapper
from eventsourcing.system import ProcessApplication
from eventsourcing.utils import Environment, EnvType
from sqlalchemy import func, select

from biomero.compat import removed
from biomero.compat.applications import LogFactory, recorder_of
from biomero.compat.sessions import EngineManager
from biomero.constants import workflow_status as wfs
from biomero.eventsourcing import Task, WorkflowRun
from biomeroworker.eventlog import legacy_views
from biomeroworker.eventlog.legacy_views import JobProgressView, JobView, TaskExecution, WorkflowProgressView
from biomeroworker.eventlog.mapper import SharedLogMapper
from biomeroworker.eventlog.tables import VIEWS

__all__ = [
    "EngineManager",
    "JobAccounting",
    "JobProgress",
    "JobProgressView",
    "JobView",
    "Task",
    "TaskExecution",
    "WorkflowAnalytics",
    "WorkflowProgress",
    "WorkflowProgressView",
    "WorkflowRun",
    "wfs",
]

#: Each has a row for each run.
_COUNTED = (VIEWS.runs, VIEWS.workflow_progress)


class _View(ProcessApplication[UUID]):
    """A follower of `WorkflowTracker` that has nothing to process: the tracker writes the rows itself.

    Its arguments are those of `WorkflowTracker`.
    """

    recorder: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recorder = recorder_of(args, kwargs)
        super().__init__()

    def __del__(self) -> None:
        """Do nothing: there is nothing to close, and at the end of the program it would be too late."""

    def construct_env(self, name: str, env: EnvType | None = None) -> Environment:
        """Without the variables of the process: they do not change how the log is read."""
        return Environment(name, env)

    def construct_factory(self, env: Environment) -> Any:
        """The infrastructure, with the engine of the event log."""
        return LogFactory(env, self._recorder.engine)

    def construct_mapper(self) -> Mapper[UUID]:
        """One for a log that other programs read and write, too."""
        return SharedLogMapper(self.construct_transcoder())

    def construct_recorder(self) -> Any:
        """The recorder of the log."""
        return self._recorder

    def follow(self, name: str, log: NotificationLog) -> None:
        """Catch up with events that were recorded without rows; fill tables again that were emptied."""
        with self._recorder.engine.connect() as connection:
            counts = select(*(select(func.count()).select_from(one).scalar_subquery() for one in _COUNTED))
            runs, shown = connection.execute(counts).one()
        if runs and not shown:
            self._recorder.rebuild()
        else:
            self._recorder.catch_up()

    def pull_and_process(self, leader_name: str, start: int | None = None, stop: int | None = None) -> None:
        """See `WorkflowTracker.pull_and_process`."""
        if start is not None and start <= 1:
            self._recorder.rebuild()
        else:
            self._recorder.catch_up()

    def receive_recording_event(self, new_recording_event: Any) -> None:
        """Do nothing: the rows were written with the events."""

    def policy(self, domain_event: Any, processing_event: Any) -> None:
        """Do nothing: the rows were written with the events."""

    def __getattr__(self, name: str) -> Any:
        raise removed.missing(type(self).__name__, name, removed.VIEWS)


class JobAccounting(legacy_views.JobAccounting, _View):  # type: ignore[misc]  # each has a recorder
    """The user, group and task of each job.

    Examples
    --------
    >>> jobs = JobAccounting(env={"SQLALCHEMY_URL": "sqlite://"})
    >>> jobs.get_jobs(user=1)
    {}
    """

    __init__ = _View.__init__


class JobProgress(legacy_views.JobProgress, _View):  # type: ignore[misc]  # each has a recorder
    """State and progress of jobs."""

    __init__ = _View.__init__


class WorkflowProgress(legacy_views.WorkflowProgress, _View):  # type: ignore[misc]  # each has a recorder
    """State and progress of runs."""

    __init__ = _View.__init__


class WorkflowAnalytics(legacy_views.WorkflowAnalytics, _View):  # type: ignore[misc]  # each has a recorder
    """Counts, durations and failures of tasks."""

    __init__ = _View.__init__


def __getattr__(name: str) -> Any:
    raise removed.missing(__name__, name, removed.DATABASE)
