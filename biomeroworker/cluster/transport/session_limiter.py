"""Limit the number of sessions on a connection to what the server accepts; the server shows it only by refusing one."""

from __future__ import annotations

import threading
import time

#: After this time without a refusal one more is tried: other users of the connection may have caused the refusal.
_RECOVERY_SECONDS = 60.0


class AdaptiveSemaphore:
    """A semaphore for at most ``most`` sessions, and for fewer while the server refuses some."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._used = 0
        self._changed = 0.0
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        """How many sessions may be open at present."""
        return self._limit

    def available(self) -> int:
        """How many more sessions may be opened now."""
        with self._free:
            return self._limit - self._used

    def acquire(self, timeout: float) -> bool:
        """Wait until a session may be opened; False if ``timeout`` seconds were not enough."""
        with self._free:
            if not self._free.wait_for(self._is_free, timeout):
                return False
            self._used += 1
            return True

    def _is_free(self) -> bool:
        if self._limit < self._most and time.monotonic() - self._changed > _RECOVERY_SECONDS:
            self._limit += 1
            self._changed = time.monotonic()
        return self._used < self._limit

    def on_rejected(self) -> None:
        """Lower the limit: the server refused one of the acquired sessions."""
        with self._free:
            self._limit = max(1, min(self._limit, self._used - 1))
            self._changed = time.monotonic()

    def release(self) -> None:
        """End a session."""
        with self._free:
            self._used -= 1
            self._free.notify()
