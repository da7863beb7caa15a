"""The worlds of the resilience tests: a cluster that does what it is told, on SQLite."""

from __future__ import annotations

from tests.resilience.conftest import in_a_hurry, new_world, world

__all__ = ["in_a_hurry", "new_world", "world"]
