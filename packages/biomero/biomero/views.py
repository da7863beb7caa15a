"""What can be asked of the read tables."""

from biomeroworker.log.views import (
    JobAccounting,
    JobProgress,
    JobProgressView,
    JobView,
    TaskExecution,
    WorkflowAnalytics,
    WorkflowProgress,
    WorkflowProgressView,
)

__all__ = [
    "JobAccounting",
    "JobProgress",
    "JobProgressView",
    "JobView",
    "TaskExecution",
    "WorkflowAnalytics",
    "WorkflowProgress",
    "WorkflowProgressView",
]
