"""The aggregates and the tracker; stored topics name this module."""

from biomeroworker.log.run import WorkflowRun
from biomeroworker.log.task import ResultDict, Task
from biomeroworker.log.tracker import NoOpWorkflowTracker, WorkflowTracker

__all__ = ["NoOpWorkflowTracker", "ResultDict", "Task", "WorkflowRun", "WorkflowTracker"]
