"""The worlds of the resilience tests: a fake cluster with scripted behaviour, on SQLite."""

from __future__ import annotations

from tests.resilience.conftest import new_world, world

__all__ = ["new_world", "world"]
