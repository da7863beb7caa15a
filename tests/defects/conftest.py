"""The worlds of the resilience tests: a cluster that does what it is told, on SQLite."""

from __future__ import annotations

from tests.resilience.conftest import new_world, world

__all__ = ["new_world", "world"]
