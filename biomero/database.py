"""The mapped classes of the read tables, and sessions on them."""

from typing import Any

from biomeroworker.eventlog.legacy_views import Base, JobProgressView, JobView, TaskExecution, WorkflowProgressView
from biomeroworker.scripting import dropped
from biomeroworker.scripting.sessions import EngineManager

__all__ = ["Base", "EngineManager", "JobProgressView", "JobView", "TaskExecution", "WorkflowProgressView"]


def __getattr__(name: str) -> Any:
    raise dropped.missing(__name__, name, dropped.DATABASE)
