"""Sections of the archive, their time limits, and the notes about data that could not be collected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from biomeroworker.config import Settings
from biomeroworker.diagnostics.commands import NotAvailable

#: A file of the archive: its path and its text.
File = tuple[str, str]


@dataclass(frozen=True)
class Context:
    """The input of the sections."""

    environ: Mapping[str, str]
    config: Path | None  #: the file from the command line
    settings: Settings | None  #: None if the configuration is invalid
    config_error: str  #: the reason
    server: Path  #: folder of OMERO.server, which need not exist
    home: Path


@dataclass
class Notes:
    """What a section adds to the summary: important findings, and data that is missing."""

    findings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A section. ``collect`` yields each file as soon as it is complete: files before a time-out are not lost."""

    name: str
    seconds: float
    collect: Callable[[Context, Notes], Iterator[File]]


@dataclass
class Result:
    """The files and notes of a section."""

    name: str
    files: list[File]
    notes: Notes
    seconds: float


def run(section: Section, context: Context) -> Result:
    """Run a section until its end or its time limit; after the limit, return the files that it has yielded so far."""
    files: list[File] = []
    notes = Notes()

    def work() -> None:
        try:
            for file in section.collect(context, notes):
                files.append(file)  # one by one, so that the files before a failure are not lost
        except NotAvailable as reason:
            notes.missing.append(f"not available: {reason}")
        except Exception as error:
            notes.missing.append(f"not available: {type(error).__name__}: {error}")

    started = time.monotonic()
    thread = threading.Thread(target=work, name=f"diagnostics-{section.name}", daemon=True)
    thread.start()
    thread.join(section.seconds)
    taken = time.monotonic() - started
    # copies, because the thread of a section may continue after its time limit
    collected, found = list(files), Notes(list(notes.findings), list(notes.missing))
    if thread.is_alive():
        found.missing.append(f"not complete: it took longer than {section.seconds:g} s")
    if found.missing:
        collected.append((f"{section.name}/missing.txt", "".join(f"{line}\n" for line in found.missing)))
    return Result(section.name, collected, found, taken)
