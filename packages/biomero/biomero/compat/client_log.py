"""The part of `SlurmClient` that has to do with the event log."""

from __future__ import annotations

import logging
from typing import Any

from biomero.compat.client_settings import ClientSettings
from biomero.eventsourcing import NoOpWorkflowTracker, WorkflowTracker
from biomero.views import JobAccounting, JobProgress, WorkflowAnalytics, WorkflowProgress
from biomeroworker.eventlog.runlog import RunLog

logger = logging.getLogger(__name__)


class ClientLog(ClientSettings):
    """The event log under the names of biomero. It is opened at the first use.

    With ``track_workflows`` off, or one of the ``enable_`` settings, the object stands in that takes every call and
    does nothing. That concerns the steps that a program does itself; a run that a supervisor executes is always
    recorded.
    """

    @property
    def log(self) -> RunLog:
        """The event log."""
        return self.deployment.log

    def _application(self, kind: type[Any], enabled: bool) -> Any:
        """One object of a kind for each opened log."""
        if not enabled:
            return NoOpWorkflowTracker()
        made: dict[type[Any], Any] = self.__dict__.setdefault("_applications", {})
        recorder = self.log.tracker.recorder
        if kind not in made or made[kind].recorder is not recorder:
            made[kind] = kind(recorder)
        return made[kind]

    @property
    def workflowTracker(self) -> WorkflowTracker:  # noqa: N802
        """Records runs and tasks of programs that do each step themselves."""
        tracker: WorkflowTracker = self._application(WorkflowTracker, self.track_workflows)
        return tracker

    @property
    def jobAccounting(self) -> JobAccounting:  # noqa: N802
        """The user, group and task of each job."""
        view: JobAccounting = self._application(JobAccounting, self.track_workflows and self.enable_job_accounting)
        return view

    @property
    def jobProgress(self) -> JobProgress:  # noqa: N802
        """State and progress of jobs."""
        view: JobProgress = self._application(JobProgress, self.track_workflows and self.enable_job_progress)
        return view

    @property
    def wfProgress(self) -> WorkflowProgress:  # noqa: N802
        """State and progress of runs."""
        view: WorkflowProgress = self._application(WorkflowProgress, self.track_workflows and self.enable_job_progress)
        return view

    @property
    def workflowAnalytics(self) -> WorkflowAnalytics:  # noqa: N802
        """Counts, durations and failures of tasks."""
        enabled = self.track_workflows and self.enable_workflow_analytics
        view: WorkflowAnalytics = self._application(WorkflowAnalytics, enabled)
        return view

    def initialize_analytics_system(self, reset_tables: bool = False) -> None:
        """Open the log; ``reset_tables`` makes its read tables again from all of its events."""
        log = self.log
        if reset_tables:
            if self.analytics_rebuild_start_time or self.analytics_rebuild_days_ago is not None:
                logger.warning("analytics_rebuild_… has no effect: the read tables are made again from all events")
            log.rebuild()

    def bring_listener_uptodate(self, listener: Any, start: int = 1) -> None:
        """Write the rows of events that another program recorded; those of this program have theirs at once."""
        if self.track_workflows:
            self.log.catch_up()

    def setup_listeners(self, runner: Any = None, reset_tables: bool = False) -> None:
        """The same as `initialize_analytics_system`; the runner is not used."""
        self.initialize_analytics_system(reset_tables)

    def get_listeners(self, runner: Any = None) -> None:
        """Do nothing: `jobAccounting`, `jobProgress`, `wfProgress` and `workflowAnalytics` are always there."""
