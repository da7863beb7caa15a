"""The mapped classes of the read tables, and sessions on them."""

from typing import Any

from biomero.compat import removed
from biomero.compat.sessions import EngineManager
from biomeroworker.eventlog.legacy_views import Base, JobProgressView, JobView, TaskExecution, WorkflowProgressView

__all__ = ["Base", "EngineManager", "JobProgressView", "JobView", "TaskExecution", "WorkflowProgressView"]


def __getattr__(name: str) -> Any:
    raise removed.missing(__name__, name, removed.DATABASE)
