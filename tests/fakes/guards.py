"""Guards for sources that are called without a run, and for runs of a log that no other process writes to."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from biomeroworker.engine.steps.guards import CancelToken, LeaseGuard
from biomeroworker.engine.steps.leased_run import LeasedRun


class FakeGuard:
    """Calls ``check``, which may raise; by default it does nothing, so that the step is never interrupted."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.check = check


UNGUARDED = FakeGuard()


def unleased(run_id: UUID) -> LeasedRun:
    """A run that needs no lease."""
    return LeasedRun(run_id, LeaseGuard(run_id), CancelToken(run_id))
