"""Start, recognise and stop processes without a supervisor.

A process is known by its pid *and* the time the kernel says it started, so a recycled pid is never taken for ours.
Every process also carries the root of its sandbox in its environment, which children inherit: that is how `down`
finds what a killed parent left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKER = "BIOMEROWORKER_SANDBOX"
MARKER_PART = "BIOMEROWORKER_SANDBOX_PART"

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A pid that cannot be mistaken: `started` is field 22 of ``/proc/PID/stat``, in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The live process with this pid; None when there is none (a zombie counts as none)."""
        try:
            text = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def recorded(cls, file: Path) -> Process | None:
        """The process that `file` names, if it still lives."""
        try:
            pid, started = (int(word) for word in file.read_text().split())
        except (OSError, ValueError):
            return None
        process = cls(pid, started)
        return process if process.alive() else None

    def record(self, file: Path) -> None:
        """Remember this process in `file`."""
        file.write_text(f"{self.pid} {self.started}\n")

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def send(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, patience: float, number: int = signal.SIGTERM) -> None:
        """Ask it to end; kill it after `patience` seconds; return when it is gone."""
        self.send(number)
        deadline = time.monotonic() + patience
        while self.alive():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.02)

    def uid(self) -> int:
        """Whose it is; -1 once it is gone."""
        try:
            return (PROC / str(self.pid)).stat().st_uid
        except OSError:
            return -1

    def name(self) -> str:
        """Its command's name, as the kernel keeps it."""
        try:
            return (PROC / str(self.pid) / "comm").read_text().strip()
        except OSError:
            return "?"


def spawn(
    argv: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    cwd: Path,
    user: str | None = None,
) -> Process:
    """Start `argv` in a session of its own, both streams appended to `log`, as `user` when one is named."""
    options: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    with log.open("ab") as out:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            **options,
        )
    process = Process.of(child.pid) or Process(child.pid, 0)
    child.returncode = 0  # it outlives us on purpose: no complaint when this object goes
    return process


def everything() -> Iterator[Process]:
    """All live processes of the machine."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := Process.of(int(entry.name))):
            yield process


def marked(root: Path, part: str | None = None) -> list[Process]:
    """All live processes that carry `root`'s mark, or those of one part and their children."""
    marks = {f"{MARKER}={root}".encode()} | ({f"{MARKER_PART}={part}".encode()} if part else set())
    return [process for process in everything() if marks <= set(_environment(process))]


def owned_by(uid: int) -> list[Process]:
    """All live processes of one account."""
    return [process for process in everything() if process.uid() == uid]


def working_in(folder: Path, uid: int) -> list[Process]:
    """Processes of an account whose working directory is `folder` (for those that wipe their environment)."""
    found = []
    for process in owned_by(uid):
        with contextlib.suppress(OSError):
            if (PROC / str(process.pid) / "cwd").readlink() == folder:
                found.append(process)
    return found


def _environment(process: Process) -> list[bytes]:
    try:
        return (PROC / str(process.pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []
