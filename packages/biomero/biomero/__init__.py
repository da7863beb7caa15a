"""The names that code written for biomero 2.8 imports. biomeroworker does the work."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from biomero import constants
from biomero.compat import removed
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

if TYPE_CHECKING:
    from biomero.slurm_client import SlurmClient

try:
    __version__ = metadata.version("biomero")
except metadata.PackageNotFoundError:  # a checkout that is not installed
    __version__ = "2.8.3"

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
    raise removed.missing(__name__, name, removed.DATABASE)
