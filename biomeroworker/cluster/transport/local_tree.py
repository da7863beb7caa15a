"""Trees on this machine: which files are sent, and which names received from the cluster are accepted.

File names are bytes (`os.fsencode`), because they may be in any encoding.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from biomeroworker.errors import Permanent


@dataclass(frozen=True)
class Entry:
    """A file of a local tree: its name below the tree, where it lies, its size and permission bits."""

    name: bytes
    source: bytes
    size: int
    mode: int


def scan(root: Path) -> tuple[list[Entry], list[bytes]]:
    """The files of a tree and its folders, each sorted by name.

    A link to a file is sent as that file. A link to a folder (it may form a circle), and anything else that is neither
    file nor folder, is refused.
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


def contained(name: bytes) -> bytes:
    """Return ``name``, which the cluster sent, if it stays below its folder; raise `Permanent` if not."""
    parts = name.split(b"/")
    if not name or name.startswith(b"/") or b"\0" in name or any(part in (b"", b".", b"..") for part in parts):
        raise Permanent(f"the cluster offers a file outside its folder: {os.fsdecode(name)!r}")
    return name


def remove_unlisted(stage: Path, offer: Container[bytes]) -> None:
    """Remove from the staging folder files of an earlier, interrupted fetch that the cluster no longer has."""
    root = os.fsencode(stage)
    for folder, _, files in os.walk(root):
        for name in files:
            path = folder + b"/" + name
            if path[len(root) + 1 :] not in offer:
                os.unlink(path)  # noqa: PTH108
