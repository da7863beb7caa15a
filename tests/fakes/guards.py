"""Guards for sources that are called without a run."""

from __future__ import annotations

from collections.abc import Callable


class FakeGuard:
    """Calls ``check``, which may raise; by default it does nothing, so that the step is never interrupted."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self.check = check


UNGUARDED = FakeGuard()
