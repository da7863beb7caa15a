"""The interface to a cluster's front-end.

It has one real implementation (`openssh`), one with injected faults (`tests.fakes.transport`), and one contract suite
(``tests/contract/test_transport.py``) that both pass. Rules for all methods:

* A command is an argv; no shell parses user text.
* Each call has a timeout in seconds, and raises `biomeroworker.errors.Transient` if the connection fails.
* Paths are POSIX paths; a relative path is relative to the account's home folder.
* A tree transfer that returns was verified by checksums on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

#: Called with the bytes transferred so far, and the bytes in total.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Completed:
    """The result of a remote command."""

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
    """Files and bytes of a tree, and the bytes that were sent (fewer after an interrupted transfer).

    ``digests`` has the SHA-256 (hexadecimal) of each file by its name below the tree, so that files need not be read
    again to compare them with a manifest.
    """

    files: int
    size: int
    bytes_sent: int
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


class Transport(Protocol):
    """Commands and files on a cluster's front-end."""

    @property
    def executions(self) -> int:
        """How many remote commands this transport has started."""
        ...

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a command and wait for its end. A non-zero exit code is a result, not an error."""
        ...

    def send_tree(
        self, local: Path, remote: str, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Copy all files of ``local`` to ``remote`` in one stream, verified; equal files are not sent again.

        Other files in ``remote`` do not change.
        """
        ...

    def fetch_tree(
        self, remote: str, local: Path, *, timeout: float = 3600, progress: Progress | None = None
    ) -> TransferResult:
        """Copy all files of ``remote`` to ``local`` in one stream, verified; equal files are not sent again."""
        ...

    def read_from(self, remote: str, offset: int = 0, *, limit: int = 1 << 20, timeout: float = 60) -> bytes:
        """At most ``limit`` bytes of a file from ``offset``; empty past its end; FileNotFoundError if absent."""
        ...

    def write_file(self, remote: str, content: bytes, *, mode: int = 0o600, timeout: float = 60) -> None:
        """Write a small file atomically: a reader sees the old content or the new content, never a part."""
        ...

    def list_dir(self, remote: str, *, timeout: float = 60) -> list[str]:
        """The names in a folder, sorted; FileNotFoundError if absent."""
        ...

    def exists(self, remote: str, *, timeout: float = 60) -> bool:
        """Whether a path exists."""
        ...

    def make_dirs(self, remotes: Sequence[str], *, timeout: float = 60) -> None:
        """Make folders and their parents; existing folders are no error."""
        ...

    def remove(self, remote: str, *, timeout: float = 300) -> None:
        """Remove a file or tree; a missing one is no error. Refuses ``/``, the home folder and its parents."""
        ...

    def check(self) -> None:
        """Raise a fault if no command can be run."""
        ...

    def close(self) -> None:
        """Close the connection. The next call opens a new one."""
        ...
