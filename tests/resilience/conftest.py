"""Worlds on SQLite; those on PostgreSQL are made by the tests that need it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.resilience.world import World, hurry

os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are short, also in this process."""
    from biomeroworker.domain import backoff
    from biomeroworker.engine import supervisor
    from biomeroworker.engine.steps import job_monitor

    for module, names in (
        (backoff, ("FIRST_DELAY_SECONDS", "LONGEST_DELAY_SECONDS")),
        (job_monitor, ("FIRST_INTERVAL_SECONDS", "UNKNOWN_DEADLINE")),
        (supervisor, ("SYNC_INTERVAL_SECONDS", "LEASE_SECONDS", "CANCEL_RETRY_INTERVAL_SECONDS", "STOP_GRACE_SECONDS")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    hurry()


@pytest.fixture
def new_world(tmp_path: Path) -> Callable[[str], World]:
    """Make worlds on SQLite, by name."""
    return lambda name: World(tmp_path / name, f"sqlite:///{tmp_path / name}/log.sqlite").make()


@pytest.fixture
def world(new_world: Callable[[str], World]) -> World:
    """One of them."""
    return new_world("world")
