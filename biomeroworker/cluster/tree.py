"""A folder as one stream, on our side: what is in it, how it becomes a tar stream, how it is written from one.

Contents are read once and hashed while they travel. Names are bytes all the way (`os.fsencode`), whatever they hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import IO

from biomeroworker.errors import Permanent, Transient

_CHUNK = 1 << 20
_BLOCK = 512
_WORTH_A_THREAD = 1 << 17
_HASHERS = ThreadPoolExecutor(8, thread_name_prefix="sha256")


@dataclass(frozen=True)
class Entry:
    """A file of a local tree: its name below the tree, where it lies, its size and permission bits."""

    name: bytes
    source: bytes
    size: int
    mode: int


def scan(root: Path) -> tuple[list[Entry], list[bytes]]:
    """The files of a tree and its folders, each sorted by name.

    A link to a file travels as that file. Anything else that is neither file nor folder, and a link to a folder, is
    refused: it cannot be what was meant, and a link may lead round in a circle.
    """
    if not root.is_dir():
        raise Permanent(f"{root} is not a folder: nothing to send")
    files: list[Entry] = []
    folders: list[bytes] = []
    waiting = [(os.fsencode(root), b"")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as items:
            for item in items:
                name = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    folders.append(name)
                    waiting.append((item.path, name + b"/"))
                elif item.is_file():
                    about = item.stat()
                    files.append(Entry(name, item.path, about.st_size, stat.S_IMODE(about.st_mode) & 0o777))
                else:
                    raise Permanent(f"{os.fsdecode(item.path)} is neither file nor folder and cannot be sent")
    return sorted(files, key=lambda entry: entry.name), sorted(folders)


def digest(path: bytes | str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with Path(os.fsdecode(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Hash:
    """SHA-256 beside the transfer: one part is hashed while the next is read and the last is written.

    A part's memory may be used again once the second part after it was given.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pending: Future[None] | None = None

    def update(self, part: memoryview) -> None:
        self._wait()
        if len(part) < _WORTH_A_THREAD:
            self._hash.update(part)
        else:
            self._pending = _HASHERS.submit(self._hash.update, part)

    def hexdigest(self) -> str:
        self._wait()
        return self._hash.hexdigest()

    def _wait(self) -> None:
        if self._pending:
            self._pending.result()
            self._pending = None


def _header(name: bytes, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.size, info.mode, info.type = size, mode, kind
    return info.tobuf(tarfile.GNU_FORMAT, os.fsencode("").decode() or "utf-8", "surrogateescape")


class TarWriter:
    """Writes GNU tar members to a pipe (https://www.gnu.org/software/tar/manual/html_node/Standard.html)."""

    def __init__(self, pipe: IO[bytes], moved: Callable[[int], None]) -> None:
        self._pipe = pipe
        self._moved = moved
        self._buffers = cycle(memoryview(bytearray(_CHUNK)) for _ in range(2))

    def folder(self, name: bytes) -> None:
        """Add a folder."""
        self._pipe.write(_header(name, 0, 0o777, tarfile.DIRTYPE))

    def content(self, name: bytes, content: bytes) -> None:
        """Add a file from memory."""
        self._pipe.write(_header(name, len(content), 0o600) + content + bytes(-len(content) % _BLOCK))

    def file(self, prefix: bytes, entry: Entry) -> str:
        """Add a file, read once; its digest."""
        hashed = _Hash()
        left = entry.size
        self._pipe.write(_header(prefix + entry.name, entry.size, entry.mode))
        with Path(os.fsdecode(entry.source)).open("rb", buffering=0) as source:
            while left:
                buffer = next(self._buffers)
                read = source.readinto(buffer[: min(left, _CHUNK)])
                if not read:
                    break
                part = buffer[:read]
                hashed.update(part)
                self._pipe.write(part)
                left -= read
                self._moved(read)
            if left or source.read(1):
                raise Transient(f"{os.fsdecode(entry.source)} changed while it was being sent")
        self._pipe.write(bytes(-entry.size % _BLOCK))
        return hashed.hexdigest()

    def end(self) -> None:
        """Write the end of the archive and let the far side see the end of the stream."""
        self._pipe.write(bytes(2 * _BLOCK))
        self._pipe.flush()
        self._pipe.close()


def contained(name: bytes) -> bytes:
    """``name`` if it stays below the folder that it is relative to; a far side that says otherwise is not believed."""
    parts = name.split(b"/")
    if not name or name.startswith(b"/") or b"\0" in name or any(part in (b"", b".", b"..") for part in parts):
        raise Permanent(f"the cluster offers a file outside its folder: {os.fsdecode(name)!r}")
    return name


def receive(
    stream: IO[bytes], wanted: Iterable[tuple[bytes, int]], into: Path, moved: Callable[[int], None]
) -> list[str]:
    """Write files from their bytes one after the other; their digests. `EOFError` when the stream ends early."""
    root = os.fsencode(into)
    buffers = cycle(memoryview(bytearray(_CHUNK)) for _ in range(2))
    digests = []
    made: set[bytes] = set()
    for name, size in wanted:
        target = root + b"/" + name
        folder = target.rpartition(b"/")[0]
        if folder not in made:
            Path(os.fsdecode(folder)).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # noqa: PTH108  (names are bytes)
        hashed = _Hash()
        left = size
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb", 0) as file:  # noqa: PTH123
            while left:
                buffer = next(buffers)
                read = stream.readinto(buffer[: min(left, _CHUNK)])  # type: ignore[attr-defined]
                if not read:
                    raise EOFError
                part = buffer[:read]
                hashed.update(part)
                while part:
                    part = part[file.write(part) :]
                left -= read
                moved(read)
        digests.append(hashed.hexdigest())
    return digests


def publish(staged: Path, target: Path) -> None:
    """Put a staged tree in place: at once if nothing is there, else file by file; links in the way are replaced."""
    if not os.path.lexists(target):
        staged.rename(target)
        return
    root = os.fsencode(staged)
    for folder, subfolders, files in os.walk(root):
        place = os.fsencode(target) + folder[len(root) :]
        for name in subfolders:
            below = place + b"/" + name
            if os.path.islink(below):  # noqa: PTH114
                os.unlink(below)  # noqa: PTH108
            Path(os.fsdecode(below)).mkdir(exist_ok=True)
        for name in files:
            os.replace(folder + b"/" + name, place + b"/" + name)  # noqa: PTH105
    shutil.rmtree(staged)


def matching(root: Path, offered: Mapping[bytes, int]) -> list[bytes]:
    """Which of the offered files lie below ``root`` with that size, as regular files."""
    found: list[bytes] = []
    base = os.fsencode(root)
    if not root.is_dir():
        return found
    for name, size in offered.items():
        with contextlib.suppress(OSError):
            about = os.lstat(base + b"/" + name)
            if stat.S_ISREG(about.st_mode) and about.st_size == size:
                found.append(name)
    return found
