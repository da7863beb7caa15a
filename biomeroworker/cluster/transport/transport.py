"""The seam between us and the cluster's front-end.

Eleven methods, one real implementation (`openssh`), one that can be told to misbehave (`tests.fakes.transport`), one
contract suite (``tests/contract/test_transport.py``) that both pass. Rules that hold for all of them:

* A command is an argv; no user text is ever parsed by a shell.
* Every call has a time-out in seconds and raises `biomeroworker.errors.Transient` when the link is the cause.
* Paths are POSIX paths; a relative one is relative to the cluster user's home.
* What a tree transfer reports as done was verified by checksum on the far side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: Told the bytes that have travelled so far, and the bytes in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Completed:
    """A remote command that ran to its end."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it exited 0."""
        return self.returncode == 0


@dataclass(frozen=True)
class TransferResult:
    """What a tree transfer moved: files and bytes in the tree, and bytes that really travelled (fewer on a resume).

    ``digests`` has the SHA-256 (hexadecimal) of each file of the tree by its name below it, as it is on both sides:
    whoever has a manifest need not read the files again to compare.
    """

    files: int
    size: int
    bytes_sent: int
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


class Transport(Protocol):
    """A cluster's front-end, as the engine sees it."""

    @property
    def executions(self) -> int:
        """How many remote commands this transport has started (what the benchmarks count)."""
        ...

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command to its end. A non-zero exit is an answer, not an error."""
        ...

    def send_tree(
        self, local: Path, remote: str, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Make ``remote`` hold all files of ``local``, in one stream, verified; what is there already is not sent.

        Files in ``remote`` that ``local`` lacks are left alone.
        """
        ...

    def fetch_tree(
        self, remote: str, local: Path, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Make ``local`` hold all files of ``remote``, in one stream, verified; what is there already is not sent."""
        ...

    def read_from(self, remote: str, offset: int = 0, *, limit: int = 1 << 20, timeout: float = 60) -> bytes:
        """At most ``limit`` bytes of a file from ``offset``; empty past its end; FileNotFoundError if absent."""
        ...

    def write_file(self, remote: str, content: bytes, *, mode: int = 0o600, timeout: float = 60) -> None:
        """Write a small file atomically: a reader sees the old content or the new, never a part."""
        ...

    def list_dir(self, remote: str, *, timeout: float = 60) -> list[str]:
        """The names in a folder, sorted; FileNotFoundError if absent."""
        ...

    def exists(self, remote: str, *, timeout: float = 60) -> bool:
        """Whether a path exists."""
        ...

    def make_dirs(self, remotes: Sequence[str], *, timeout: float = 60) -> None:
        """Make folders with their parents; existing ones are fine."""
        ...

    def remove(self, remote: str, *, timeout: float = 300) -> None:
        """Remove a file or tree; an absent one is fine. Refuses ``/``, the home folder, and anything above it."""
        ...

    def check(self) -> None:
        """Raise the fault that keeps us from working, if any; cheap when the connection is up."""
        ...

    def close(self) -> None:
        """End the connection that this transport opened. Using it again opens a new one."""
        ...
