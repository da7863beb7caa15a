"""Start, identify and stop processes without a supervisor.

A process is identified by its ID *and* its start time, so that a process ID that the kernel uses again is not mistaken
for it. The environment of each process names the root of its sandbox. Child processes inherit it, so `down` finds them
even if their parent was killed.
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
    """A process; ``started`` is field 22 of ``/proc/PID/stat``, in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The running process with this ID; None if there is none, or a zombie."""
        try:
            text = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def recorded(cls, file: Path) -> Process | None:
        """The process in a file of `record`; None if it does not run."""
        try:
            pid, started = (int(word) for word in file.read_text().split())
        except (OSError, ValueError):
            return None
        process = cls(pid, started)
        return process if process.alive() else None

    def record(self, file: Path) -> None:
        """Write this process to a file."""
        file.write_text(f"{self.pid} {self.started}\n")

    def alive(self) -> bool:
        """Whether the process runs."""
        return Process.of(self.pid) == self

    def send(self, number: int) -> None:
        """Send a signal if the process runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def stop(self, timeout: float, number: int = signal.SIGTERM) -> None:
        """Send a signal, SIGKILL after ``timeout`` seconds, and wait until the process has ended."""
        self.send(number)
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(0.02)

    def uid(self) -> int:
        """The user ID of the process; -1 if it has ended."""
        try:
            return (PROC / str(self.pid)).stat().st_uid
        except OSError:
            return -1

    def name(self) -> str:
        """The name of the command."""
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
    """Start a process in a new session, as ``user`` if given. Stdout and stderr are appended to ``log``."""
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
    child.returncode = 0  # the process continues after this program: suppress the warning of Popen
    return process


def all_processes() -> Iterator[Process]:
    """All running processes of the machine."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := Process.of(int(entry.name))):
            yield process


def marked(root: Path, part: str | None = None) -> list[Process]:
    """All running processes of a sandbox, or of one of its parts, with their child processes."""
    marks = {f"{MARKER}={root}".encode()} | ({f"{MARKER_PART}={part}".encode()} if part else set())
    return [process for process in all_processes() if marks <= set(_environment(process))]


def owned_by(uid: int) -> list[Process]:
    """All running processes of a user."""
    return [process for process in all_processes() if process.uid() == uid]


def working_in(folder: Path, uid: int) -> list[Process]:
    """Processes of a user with this working directory, for programs that clear their environment."""
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
