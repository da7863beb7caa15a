"""The aggregates and the tracker; stored topics name this module."""

from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.task import ResultDict, Task
from biomeroworker.eventlog.tracker import NoOpWorkflowTracker, WorkflowTracker

__all__ = ["NoOpWorkflowTracker", "ResultDict", "Task", "WorkflowRun", "WorkflowTracker"]
