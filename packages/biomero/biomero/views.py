"""What can be asked of the read tables."""

from biomeroworker.eventlog.legacy_views import (
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
