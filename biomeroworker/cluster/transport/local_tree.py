"""A folder as one stream, on our side: what is in it, how it becomes a tar stream, what may be written from one.

Names are bytes all the way (`os.fsencode`), whatever they hold.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from biomeroworker.errors import Permanent
from biomeroworker.remote import tree_agent

_BLOCK_BYTES = 512


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


def _header(name: bytes, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(os.fsdecode(name))
    info.size, info.mode, info.type = size, mode, kind
    return info.tobuf(tarfile.GNU_FORMAT, os.fsencode("").decode() or "utf-8", "surrogateescape")


class TarWriter:
    """Writes GNU tar members to a pipe (https://www.gnu.org/software/tar/manual/html_node/Standard.html)."""

    def __init__(self, pipe: IO[bytes], moved: Callable[[int], None]) -> None:
        self._pipe = pipe
        self._moved = moved

    def content(self, name: bytes, content: bytes) -> None:
        """Add a file from memory."""
        self._pipe.write(_header(name, len(content), 0o600) + content + bytes(-len(content) % _BLOCK_BYTES))

    def file(self, prefix: bytes, entry: Entry) -> str:
        """Add a file, read once; its digest."""
        self._pipe.write(_header(prefix + entry.name, entry.size, entry.mode))
        (digest,) = tree_agent.send(self._pipe, [(entry.source, 0, entry.size)], self._moved, {})
        self._pipe.write(bytes(-entry.size % _BLOCK_BYTES))
        return digest

    def end(self) -> None:
        """Write the end of the archive and let the far side see the end of the stream."""
        self._pipe.write(bytes(2 * _BLOCK_BYTES))
        self._pipe.flush()
        self._pipe.close()


def contained(name: bytes) -> bytes:
    """``name`` if it stays below the folder that it is relative to; a far side that says otherwise is not believed."""
    parts = name.split(b"/")
    if not name or name.startswith(b"/") or b"\0" in name or any(part in (b"", b".", b"..") for part in parts):
        raise Permanent(f"the cluster offers a file outside its folder: {os.fsdecode(name)!r}")
    return name


def remove_unlisted(stage: Path, offer: Container[bytes]) -> None:
    """Remove from a staged tree what an earlier, cut fetch left there and the far side no longer has."""
    root = os.fsencode(stage)
    for folder, _, files in os.walk(root):
        for name in files:
            path = folder + b"/" + name
            if path[len(root) + 1 :] not in offer:
                os.unlink(path)  # noqa: PTH108
