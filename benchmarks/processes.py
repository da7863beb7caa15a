"""What a process costs, from /proc (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Memory in MB (10⁶ bytes) and processor time in seconds, so far."""

    resident: float
    peak: float
    cpu: float


def cost(pid: int) -> Cost:
    """Of one process, its children that were waited for included in the time."""
    folder = Path(f"/proc/{pid}")
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]

    def megabytes(name: str) -> float:
        return int(fields[name].split()[0]) * 1024 / 1e6

    return Cost(megabytes("VmRSS"), megabytes("VmHWM"), sum(map(int, times)) / _TICKS)
