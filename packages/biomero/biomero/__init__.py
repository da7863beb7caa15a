"""The names that code written for biomero 2.8 imports. biomeroworker does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biomero import constants
from biomero.constants import workflow_status as wfs
from biomero.database import EngineManager
from biomero.eventsourcing import NoOpWorkflowTracker, ResultDict, Task, WorkflowRun, WorkflowTracker
from biomero.views import (
    JobAccounting,
    JobProgress,
    JobProgressView,
    JobView,
    TaskExecution,
    WorkflowAnalytics,
    WorkflowProgress,
    WorkflowProgressView,
)
from biomeroworker import __version__

if TYPE_CHECKING:
    from biomero.slurm_client import SlurmClient

__all__ = [
    "EngineManager",
    "JobAccounting",
    "JobProgress",
    "JobProgressView",
    "JobView",
    "NoOpWorkflowTracker",
    "ResultDict",
    "SlurmClient",
    "Task",
    "TaskExecution",
    "WorkflowAnalytics",
    "WorkflowProgress",
    "WorkflowProgressView",
    "WorkflowRun",
    "WorkflowTracker",
    "__version__",
    "constants",
    "wfs",
]


def __getattr__(name: str) -> Any:
    """Import the client at its first use: it loads the SSH libraries."""
    if name == "SlurmClient":
        from biomero.slurm_client import SlurmClient

        return SlurmClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
