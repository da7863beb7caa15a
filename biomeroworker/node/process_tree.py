"""The process tree of a script: its memory usage, and killing it.

The memory limit is enforced by measuring the whole tree several times per second. `RLIMIT_DATA` and `RLIMIT_AS` are not
suitable: they count what one process has reserved, not what it uses, so that a Java virtual machine or a sparse array
reaches them early, and ten children may use ten times the limit. A cgroup would be suitable, but an ordinary account in
a container cannot create one. If memory runs out between two measurements, `prefer_for_oom` makes the kernel kill the
script instead of the node.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

#: The kernel adds this to the score of a script when it selects a process to kill (0 to 1000). Raising it needs no
#: privilege.
OOM_SCORE = 500
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def members(leader: int) -> list[int]:
    """The process ``leader``, the processes of the session that it leads, and all their descendants.

    A daemon that left the session and has another parent, such as a shared SSH connection, is not included.
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
    """Resident memory. Pages that several processes share are counted for each of them."""
    return sum(_resident_bytes(pid) for pid in pids)


def shared_once_bytes(pids: list[int]) -> int:
    """Resident memory, with shared pages counted once; slower than `used_bytes`."""
    return sum(_proportional_bytes(pid) for pid in pids)


def kill(leader: int) -> None:
    """Kill all `members`; twice, because new ones may be started during the first pass."""
    for _ in range(2):
        for pid in members(leader):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def prefer_for_oom(pid: int) -> None:
    """Make the kernel kill this process, and its children, before the node when memory runs out."""
    with contextlib.suppress(OSError):  # it may have ended
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(OOM_SCORE))


def machine_bytes() -> int:
    """Memory of this machine, or of this container if its limit is lower."""
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
                # the name of the program, in brackets, may contain any character
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
