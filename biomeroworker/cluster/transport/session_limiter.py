"""How many commands run at once on a connection: no more than the server takes, which it says only by refusing one."""

from __future__ import annotations

import threading
import time

#: After so long without a refusal one more is tried: the limit may have been somebody else's commands.
_RECOVERY_SECONDS = 60.0


class AdaptiveSemaphore:
    """Places for commands, at most ``most``, fewer while the server refuses them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = most
        self._used = 0
        self._changed = 0.0
        self._free = threading.Condition()

    @property
    def limit(self) -> int:
        """How many may run at once at present."""
        return self._limit

    def available(self) -> int:
        """How many are free just now."""
        with self._free:
            return self._limit - self._used

    def acquire(self, timeout: float) -> bool:
        """Wait for a place; whether there was one in time."""
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
        """The server did not take one of the commands that have a place: let there be one fewer."""
        with self._free:
            self._limit = max(1, min(self._limit, self._used - 1))
            self._changed = time.monotonic()

    def release(self) -> None:
        """Give a place back."""
        with self._free:
            self._used -= 1
            self._free.notify()
