"""How many scripts run at once: further ones wait and are started in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ScriptQueue(Generic[T]):
    """A bound with a waiting line. It only counts; starting a script is up to the caller.

    Parameters
    ----------
    limit
        Called each time that there may be room: a changed setting counts at once.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[T] = deque()
        self._running: list[T] = []

    def add(self, script: T) -> None:
        """Append a script to the waiting line."""
        with self._lock:
            self._waiting.append(script)

    def take(self) -> list[T]:
        """The scripts that may start now; they count as running from here on."""
        with self._lock:
            room = max(0, self._limit() - len(self._running))
            started = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            self._running += started
            return started

    def withdraw(self, script: T) -> bool:
        """Take a script out of the waiting line; returns whether it was there."""
        with self._lock:
            if script not in self._waiting:
                return False
            self._waiting.remove(script)
            return True

    def ended(self, script: T) -> bool:
        """A script does not run any more; returns whether it counted as running until now."""
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
        """The scripts that wait, the next one first."""
        with self._lock:
            return list(self._waiting)
