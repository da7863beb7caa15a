"""The section with recent logs: the end of each log file of the node, and the supervisor's journal."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from biomeroworker.diagnostics.commands import run_program
from biomeroworker.diagnostics.sections import Context, File, Notes

#: Maximum size of the part of each file, and maximum number of files; the newest ones are collected.
TAIL_BYTES = 256_000
_MAX_FILES = 30
#: Longer lines are cut.
_LINE_CHARACTERS = 4_000
SUFFIXES = (".log", ".out", ".err")
#: The supervisor's unit in docs/deploy.md.
_UNIT = "biomeroworker"
_JOURNAL_LINES = 2_000
_JOURNAL_SECONDS = 20.0


def logs(context: Context, notes: Notes) -> Iterator[File]:
    """The latest log lines of the grid's servers and of the supervisor."""
    folder = context.server / "var/log"
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIXES)]  # noqa: PTH208
    except OSError as error:
        notes.missing.append(f"{folder} cannot be listed ({error.strerror}); OMERODIR names the folder of OMERO.server")
        names = []
    dated = sorted(names, key=lambda name: (-_changed(folder / name), name))
    for name in sorted(dated[:_MAX_FILES]):
        try:
            yield f"logs/{name}", tail(folder / name)
        except OSError as error:
            notes.missing.append(f"{folder / name} cannot be read: {error.strerror}")
    if dated[_MAX_FILES:]:
        notes.missing.append(f"{len(dated) - _MAX_FILES} older files of {folder} were left out")
    yield from _journal(notes)


def _journal(notes: Notes) -> Iterator[File]:
    """The supervisor's output from systemd's journal. A container cannot read its own output."""
    if not Path("/run/systemd/system").is_dir():
        notes.missing.append(
            "the supervisor has no log file here; for a container, add the output of: docker logs NAME"
        )
        return
    lines = f"--lines={_JOURNAL_LINES}"
    answer = run_program(
        ["journalctl", f"--unit={_UNIT}", lines, "--no-pager", "--output=short-iso"], seconds=_JOURNAL_SECONDS
    )
    yield "logs/journal.txt", "\n".join(_cut(line) for line in answer.text.splitlines()) + "\n"


def tail(file: Path) -> str:
    """The end of a file, in whole lines. Links and other special files are refused.

    An account with fewer privileges may own the folder; it could link to a file that only this account can read.
    """
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        begin = max(0, found.st_size - TAIL_BYTES)
        opened.seek(begin)
        text = opened.read(TAIL_BYTES).decode(errors="replace")
    lines = text.split("\n")
    if begin:  # a part of a line could contain a part of a secret, which redaction does not find
        lines[0] = f"[... {begin} bytes before this were left out]"
    return "\n".join(map(_cut, lines))


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]} [... cut]"


def _changed(file: Path) -> float:
    try:
        return file.lstat().st_mtime
    except OSError:
        return 0.0
