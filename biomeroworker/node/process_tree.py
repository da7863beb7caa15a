"""The processes that a script consists of: how much memory they use together, and ending them all.

Memory is limited by looking at what the whole tree uses, several times per second. `RLIMIT_DATA` and `RLIMIT_AS` would
not do: they count what one process has reserved, not what it uses, so that a Java virtual machine or a sparse array
hits them early, and ten children may use ten times the limit. A cgroup would do, but an ordinary account in a container
may not make one. For what is faster than our look, `prefer_for_oom` makes the kernel end the script and not the node.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

#: What the kernel adds to a script's badness when memory runs out (0 to 1000). Raising it needs no privilege.
OOM_SCORE = 500
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def members(leader: int) -> list[int]:
    """The process ``leader``, the processes of the session that it leads, and all their descendants.

    A daemon that left both, such as a shared SSH connection, is none of them.
    """
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid, parent, session in _processes():
        parents[pid] = parent
        if leader in (pid, session):
            found.add(pid)
    more = True
    while more:
        children = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= children
        more = bool(children)
    return sorted(found)


def used_bytes(pids: list[int]) -> int:
    """Memory in use. Pages that several of them share count in each."""
    return sum(_resident_bytes(pid) for pid in pids)


def shared_once_bytes(pids: list[int]) -> int:
    """Memory in use, with pages that several processes share counted once; slower than `used_bytes`."""
    return sum(_proportional_bytes(pid) for pid in pids)


def kill(leader: int) -> None:
    """End all of them. Twice, for what was started meanwhile."""
    for _ in range(2):
        for pid in members(leader):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def prefer_for_oom(pid: int) -> None:
    """Let the kernel end this process, and what it starts, before the node when memory runs out."""
    with contextlib.suppress(OSError):  # it may have ended
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))


def machine_bytes() -> int:
    """Memory of this machine, or of this container where that has less."""
    total = os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            total = min(total, int(Path(file).read_text()))
    return total


def _processes() -> Iterator[tuple[int, int, int]]:
    """Process, parent and session of every process."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # the name of the program, in brackets, may hold anything
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
                yield int(folder.name), int(fields[1]), int(fields[3])


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:  # ended, or an old kernel
        pass
    return _resident_bytes(pid)
