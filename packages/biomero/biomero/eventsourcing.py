"""The aggregates and the tracker; stored topics name this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventsourcing.system import Leader
from eventsourcing.utils import Environment

from biomero.compat import removed
from biomero.compat.applications import LogFactory, recorder_of
from biomero.compat.sessions import EngineManager
from biomeroworker.eventlog import tracker
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.task import ResultDict, Task
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tracker import NoOpWorkflowTracker

__all__ = ["EngineManager", "NoOpWorkflowTracker", "ResultDict", "Task", "WorkflowRun", "WorkflowTracker"]


class WorkflowTracker(tracker.WorkflowTracker, Leader):  # type: ignore[type-arg]
    """Runs and tasks, recorded one event at a time.

    Parameters
    ----------
    env
        ``SQLALCHEMY_URL`` is the database; without it that of the environment or of the configuration. With
        ``CREATE_TABLE`` = ``no`` no table is made. Other keys are ignored.

    Examples
    --------
    >>> tracker = WorkflowTracker(env={"SQLALCHEMY_URL": "sqlite://"})
    >>> run = tracker.initiate_workflow("cellpose", "cellpose v1.0", user=1, group=2)
    >>> tracker.repository.get(str(run)).name
    'cellpose'
    """

    name = "WorkflowTracker"

    def __init__(self, env: Mapping[str, str] | SQLRecorder | None = None) -> None:
        super().__init__(recorder_of((env,), {}))

    def __del__(self) -> None:
        """Do nothing: there is nothing to close, and at the end of the program it would be too late."""

    def construct_factory(self, env: Environment) -> Any:
        """The infrastructure, with the engine of the event log."""
        return LogFactory(env, self._recorder.engine)

    def pull_and_process(self, leader_name: str, start: int | None = None, stop: int | None = None) -> None:
        """Bring the read tables up to date; with a ``start`` of 0 or 1 make them again from all events.

        Runs recorded by this program have their rows at once: this is for events that other programs recorded.
        """
        if start is not None and start <= 1:
            self._recorder.rebuild()
        else:
            self._recorder.catch_up()


def __getattr__(name: str) -> Any:
    raise removed.missing(__name__, name, removed.DATABASE)
