"""The calls of this process to OMERO, one by one: places where it can be killed, or stopped to cause a fault.

The calls are counted where Ice sends them, so a call that is added to the product is one more here, without a list.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import omero
import omero.all
import omero.cmd

#: Prefixes of calls that change nothing that exists longer than the session.
READS = (
    *("get", "find", "projection", "keepAlive", "load", "list", "ice_", "poll", "contained", "lookup", "subscribe"),
    *("createRaw", "createQuery", "setFileId", "setPixelsId", "setSecurityContext", "is", "read", "can", "detach"),
)


class _Counted:
    """An operation of Ice that calls a listener before and after each call."""

    def __init__(self, operation: Any, name: str, listener: Callable[[str], None]) -> None:
        self._operation, self._name, self._listener = operation, name, listener

    def invoke(self, *arguments: Any) -> Any:
        self._listener(f"before {self._name}")
        answer = self._operation.invoke(*arguments)
        self._listener(f"after {self._name}")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operation, name)


def listen(listener: Callable[[str], None]) -> None:
    """Call ``listener`` for every call from now on: ``before saveCollection``, ``after saveCollection``."""
    for module in (omero.api, omero.cmd, omero.grid):
        for kind in list(vars(module).values()):
            if not isinstance(kind, type) or kind.__name__.endswith("Callback"):  # called by the server
                continue
            for name, operation in list(vars(kind).items()):
                if name.startswith("_op_"):
                    setattr(kind, name, _Counted(operation, name.removeprefix("_op_"), listener))


def changes(moment: str) -> bool:
    """Whether a moment belongs to a call that changes something."""
    return not moment.partition(" ")[2].startswith(READS)


class Moments:
    """The moments of one process, in a file; at one of them it dies, or waits.

    Parameters
    ----------
    file
        Gets a line for each moment.
    kill_at
        Number of the moment of a change at which the process kills itself; 0 for never.
    hold_at
        The moment (such as ``before setPlane``) at which it waits, the first time, until ``file.go`` is there.
    term_at
        Number of the moment at which the process gets SIGTERM; 0 for never.
    """

    def __init__(self, file: Path, *, kill_at: int = 0, hold_at: str = "", term_at: int = 0) -> None:
        self._file, self._kill_at, self._hold_at, self._term_at = file, kill_at, hold_at, term_at
        self._lock, self._count, self._all = threading.Lock(), 0, 0
        self.on = False

    def __call__(self, moment: str) -> None:
        if not self.on:
            return
        with self._lock:
            with self._file.open("a") as lines:
                lines.write(f"{moment}\n")
            self._all += 1
            if self._all == self._term_at:
                self._file.with_suffix(".terminated").touch()
                os.kill(os.getpid(), signal.SIGTERM)
            if changes(moment):
                self._count += 1
                if self._count == self._kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                    threading.Event().wait()
            held, self._hold_at = moment == self._hold_at, "" if moment == self._hold_at else self._hold_at
        if held:
            self._file.with_suffix(".held").touch()
            while not self._file.with_suffix(".go").exists():
                time.sleep(0.02)
