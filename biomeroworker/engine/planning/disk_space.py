"""Check that the cluster has enough free space before inputs are sent.

A transfer into a full file system fails late and disturbs the jobs of all users. One query serves all runs for a
minute: what was sent since then is subtracted.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport import remote_scripts
from biomeroworker.cluster.transport.errors import remote_file_fault
from biomeroworker.config import ClusterSettings
from biomeroworker.errors import Blocked

#: Seconds for which an answer is used.
CACHE_SECONDS = 60.0

#: $1 folder; if it does not exist yet, its nearest existing parent is used. Bytes and inodes, free and total.
_FREE = """
cd && d=$1
while [ ! -d "$d" ] && [ "$d" != / ] && [ "$d" != . ]; do d=$(dirname -- "$d"); done
df --block-size=1 --output=avail,size,iavail,itotal -- "$d" | tail -n 1
"""


@dataclass(frozen=True)
class Free:
    """The free space of a file system in bytes; ``files`` (free inodes) is None where they are not counted."""

    size: int
    total: int
    files: int | None


def free_command(folder: str) -> list[str]:
    """Build the query for the free space of the file system that holds, or will hold, a folder."""
    return remote_scripts.program(_FREE, remote_scripts.path(folder))


def parse_free(text: str) -> Free | None:
    """The answer; None when it has no figures, as for some network file systems."""
    words = text.split()
    if len(words) != 4 or not (words[0].isdigit() and words[1].isdigit()) or int(words[1]) == 0:
        return None
    files = int(words[2]) if words[2].isdigit() and words[3].isdigit() and int(words[3]) > 0 else None
    return Free(int(words[0]), int(words[1]), files)


class SpaceGuard:
    """Refuses transfers that do not fit. Safe to use from several threads."""

    def __init__(self, cluster: Cluster, settings: ClusterSettings) -> None:
        self._cluster = cluster
        self._margin = int(settings.slurm.free_space_gb * 1e9)
        self._lock = threading.Lock()
        self._checked_at = float("-inf")
        self._free: Free | None = None
        self._sent = self._files = 0

    def check(self, size: int, files: int = 0) -> None:
        """Allow a transfer of ``size`` bytes and ``files`` files.

        Raises
        ------
        Blocked
            Less than the margin would stay free; the message has the figures.
        """
        with self._lock:
            if time.monotonic() - self._checked_at > CACHE_SECONDS or self._refusal(size, files):
                self._query()  # refuse only on new figures
            if refusal := self._refusal(size, files):
                raise Blocked(
                    refusal, hint="remove data from the cluster or get more space; [SLURM] free_space_gb is the margin"
                )
            self._sent += size
            self._files += files

    def _query(self) -> None:
        answer = self._cluster.transport.run(free_command(self._cluster.remote_paths.data), timeout=60)
        if not answer.ok:
            raise remote_file_fault("querying the free space on the cluster", answer.stderr)
        self._free, self._checked_at = parse_free(answer.stdout), time.monotonic()
        self._sent = self._files = 0

    def _refusal(self, size: int, files: int) -> str:
        if self._free is None:
            return ""
        folder = self._cluster.remote_paths.data
        left = max(self._free.size - self._sent, 0)
        if left < size + self._margin:
            return (
                f"{folder} on the cluster has {_gb(left)} free of {_gb(self._free.total)}; "
                f"the inputs take {_gb(size)}, and {_gb(self._margin)} must stay free"
            )
        if self._free.files is not None and self._free.files - self._files < files:
            return f"{folder} on the cluster has room for {self._free.files} more files; the inputs are {files}"
        return ""


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
