"""End a process that serves when it is told to, in ten seconds at most, whatever it is doing.

What is served can be cut off anywhere without harm, so there is nothing to wait for: a step that is under way, or a
server that does not answer, must not keep a machine from being shut down. Signals are heard by a thread of their own
(`signal.set_wakeup_fd`). A handler in Python would run in the middle of whatever the main thread does: not at all while
that waits inside a library, and into a deadlock when it holds the lock that the handler wants.
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

#: Seconds from the signal until the process leaves, wherever it is.
GRACE_SECONDS = 8.0
#: Seconds after that in which even an interpreter that is stuck is ended, with a trace of where it was.
LAST_RESORT_SECONDS = 1.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignal:
    """Whether the process has been told to end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._acts: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add_callback(self, act: Callable[[], None]) -> None:
        """Call ``act``, in some thread, when it is told; at once if it has been."""
        with self._lock:
            if not self.event.is_set():
                self._acts.append(act)
                return
        act()

    def _tell(self) -> None:
        with self._lock:
            self.event.set()
            acts, self._acts = self._acts, []
        for act in acts:
            act()


@contextlib.contextmanager
def graceful_shutdown(*, leave: bool = True) -> Iterator[ShutdownSignal]:
    """While the block runs, SIGTERM and Ctrl-C tell it to end; a second one ends the process at once.

    Parameters
    ----------
    leave
        Whether the process ends with the block once it was told, with status 0, and `GRACE_SECONDS` seconds after the
        signal in any case. Nothing is cleaned up then: libraries may still have threads that wait for somebody who is
        gone.
    """
    told, over = ShutdownSignal(), threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def listen() -> None:
        numbers = _signals(reading, None)
        if numbers and not over.is_set():
            threading.Thread(target=told._tell, name="told", daemon=True).start()
            if leave:
                with contextlib.suppress(Exception):  # a stderr that is no file
                    faulthandler.dump_traceback_later(GRACE_SECONDS + LAST_RESORT_SECONDS, exit=True)
            numbers = numbers[1:] or _signals(reading, GRACE_SECONDS if leave else None)
            if not over.is_set():
                if numbers:
                    os._exit(128 + numbers[0])
                _leave("not all of it ended in time; what was under way is taken up at the next start")
        os.close(reading)

    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=listen, name="signals", daemon=True).start()
    try:
        yield told
        if leave and told.event.is_set():
            _leave()
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)


def _signals(pipe: int, seconds: float | None) -> bytes:
    """The numbers of the signals that have come; nothing if none came in time, or none can come any more."""
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
    """End with status 0, now."""
    with contextlib.suppress(Exception):
        if word:
            print(word, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)
