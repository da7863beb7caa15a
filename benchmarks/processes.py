"""Memory and processor time of processes, from /proc (proc(5))."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Memory in MB (10⁶ bytes), and processor time in seconds since the start."""

    resident: float
    peak: float
    cpu: float


def cost(pid: int) -> Cost:
    """The cost of one process; the time includes children that have ended."""
    folder = Path(f"/proc/{pid}")
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]

    def megabytes(name: str) -> float:
        return int(fields[name].split()[0]) * 1024 / 1e6

    return Cost(megabytes("VmRSS"), megabytes("VmHWM"), sum(map(int, times)) / _TICKS)


@dataclass(frozen=True)
class Usage:
    """The cost of a program from its start to its end; memory in MB, of the program and its children together."""

    seconds: float
    cpu: float
    peak: float
    peak_anonymous: float


def run_measured(argv: Sequence[str], every: float = 0.05) -> Usage:
    """Run a program to its end and sample its memory."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = own = 0.0
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=errors)
        while process.poll() is None:
            resident, anonymous = _tree(process.pid)
            peak, own = max(peak, resident), max(own, anonymous)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(every)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{argv[0]} failed with {process.returncode}: {errors.read()[-2000:]}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return Usage(seconds, cpu, max(peak, 0.0), own)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    return found


def _descendants(roots: Iterable[int]) -> Iterator[int]:
    children = _children()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        yield one


def _tree(pid: int) -> tuple[float, float]:
    """Resident and anonymous memory of a process and its descendants, in MB."""
    resident = anonymous = 0.0
    for one in _descendants([pid]):
        with contextlib.suppress(OSError, KeyError):
            status = Path(f"/proc/{one}/status").read_text()
            fields = dict(line.split(":", 1) for line in status.splitlines())
            resident += int(fields["VmRSS"].split()[0]) * 1024 / 1e6
            anonymous += int(fields["RssAnon"].split()[0]) * 1024 / 1e6
    return resident, anonymous


def tree_cpu(roots: Iterable[int]) -> float:
    """Processor time in seconds of processes, their descendants, and their children that have ended."""
    total = 0.0
    for one in set(_descendants(roots)):
        with contextlib.suppress(OSError):
            times = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]
            total += sum(map(int, times)) / _TICKS
    return total
