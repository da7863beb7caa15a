"""Worlds on SQLite; the tests that need PostgreSQL make their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.resilience.world import World

os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def new_world(tmp_path: Path) -> Callable[[str], World]:
    """Make worlds on SQLite, by name."""
    return lambda name: World(tmp_path / name, f"sqlite:///{tmp_path / name}/log.sqlite").make()


@pytest.fixture
def world(new_world: Callable[[str], World]) -> World:
    """One world on SQLite."""
    return new_world("world")
