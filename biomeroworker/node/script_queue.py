"""A queue with a limit on the number of scripts that run at the same time. Scripts start in the order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ScriptQueue(Generic[T]):
    """The waiting and the running scripts. Only counts them; the caller starts them.

    Parameters
    ----------
    limit
        Returns the maximum number of running scripts; called for each `take`, so that a changed setting applies.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._running: list[T] = []

    def add(self, script: T) -> None:
        """Append a script to the waiting ones."""
        with self._lock:
            self._waiting.append(script)

    def take(self) -> list[T]:
        """Remove and return the scripts that may start now; they count as running from now on."""
        with self._lock:
            room = max(0, self._limit() - len(self._running))
            started = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._running += started
            return started

    def withdraw(self, script: T) -> bool:
        """Remove a waiting script; returns False if it was not waiting."""
        with self._lock:
            if script not in self._waiting:
                return False
            self._waiting.remove(script)
            return True

    def ended(self, script: T) -> bool:
        """Remove a running script; returns False if it did not count as running."""
        with self._lock:
            if script not in self._running:
                return False
            self._running.remove(script)
            return True

    def running(self) -> list[T]:
        """The scripts that count as running."""
        with self._lock:
            return list(self._running)

    def waiting(self) -> list[T]:
        """The waiting scripts, the next one first."""
        with self._lock:
            return list(self._waiting)
