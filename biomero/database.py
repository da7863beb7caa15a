"""The mapped classes of the read tables."""

from biomeroworker.log.views import Base, JobProgressView, JobView, TaskExecution, WorkflowProgressView

__all__ = ["Base", "JobProgressView", "JobView", "TaskExecution", "WorkflowProgressView"]
