"""Names that code written for biomero imports: re-exports of `biomeroworker`, without logic of their own."""

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
    from biomeroworker.client import SlurmClient

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
    """The client loads the SSH libraries: only for those who ask for it."""
    if name == "SlurmClient":
        from biomeroworker.client import SlurmClient

        return SlurmClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
