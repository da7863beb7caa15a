"""Stop a service on SIGTERM or Ctrl-C within ten seconds, in whatever state it is.

Every step may be interrupted without harm, so there is nothing to wait for: a step in progress, or a server that does
not answer, must not delay the shutdown of the machine. Signals are received by a separate thread
(`signal.set_wakeup_fd`). A signal handler in Python runs in the main thread: not at all while that thread waits in a
library, and with a deadlock if the thread holds a lock that the handler needs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

#: Seconds from the signal until the process exits, in whatever state it is.
GRACE_SECONDS = 8.0
#: Further seconds until a Python interpreter that is stuck is ended, with a traceback.
LAST_RESORT_SECONDS = 1.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignal:
    """Whether the process must end, and what to call then."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call ``callback``, in any thread, when the process must end; immediately if that is already so."""
        with self._lock:
            if not self.event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def _set(self) -> None:
        with self._lock:
            self.event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


@contextlib.contextmanager
def graceful_shutdown(*, leave: bool = True) -> Iterator[ShutdownSignal]:
    """While the block runs, SIGTERM and Ctrl-C request its end; a second signal ends the process immediately.

    Parameters
    ----------
    leave
        After a signal, end the process with status 0 when the block ends, or `GRACE_SECONDS` seconds after the signal.
        Nothing is cleaned up then, because threads of libraries may still wait for a peer that does not answer.
    """
    shutdown, over = ShutdownSignal(), threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def listen() -> None:
        numbers = _signals(reading, None)
        if numbers and not over.is_set():
            threading.Thread(target=shutdown._set, name="shutdown", daemon=True).start()
            if leave:
                with contextlib.suppress(Exception):  # stderr is no file
                    faulthandler.dump_traceback_later(GRACE_SECONDS + LAST_RESORT_SECONDS, exit=True)
            numbers = numbers[1:] or _signals(reading, GRACE_SECONDS if leave else None)
            if not over.is_set():
                if numbers:
                    os._exit(128 + numbers[0])
                _leave("some work did not stop in time; the next start continues it")
        os.close(reading)

    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=listen, name="signals", daemon=True).start()
    try:
        yield shutdown
        if leave and shutdown.event.is_set():
            _leave()
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)


def _signals(pipe: int, seconds: float | None) -> bytes:
    """The numbers of the signals received; empty after ``seconds`` without a signal, or when the pipe is closed."""
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, _, _ = select.select([pipe], [], [], left)
        if not ready:
            return b""
        read = os.read(pipe, 16)
        ours = bytes(number for number in read if number in SIGNALS)
        if ours or not read:
            return ours


def _leave(word: str = "") -> None:
    """End the process immediately, with status 0."""
    with contextlib.suppress(Exception):
        if word:
            print(word, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
