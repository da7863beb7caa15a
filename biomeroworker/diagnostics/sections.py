"""A section of the archive: what it collects, how long it may take, and what is noted when it fails."""

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
    """What the sections look at."""

    environ: Mapping[str, str]
    config: Path | None  #: the file that was named on the command line
    settings: Settings | None  #: None where the configuration is wrong
    config_error: str  #: why
    server: Path  #: folder of OMERO.server, which need not exist
    home: Path


@dataclass
class Notes:
    """What a section adds to the summary: what a person should see first, and what could not be asked."""

    findings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """One section. ``collect`` yields files as soon as it has them, so that a late one costs only what is missing."""

    name: str
    seconds: float
    collect: Callable[[Context, Notes], Iterator[File]]


@dataclass
class Result:
    """What a section has brought."""

    name: str
    files: list[File]
    notes: Notes
    seconds: float


def run(section: Section, context: Context) -> Result:
    """Run a section to its end, or until its time is over: then it is left behind, with what it brought so far."""
    files: list[File] = []
    notes = Notes()

    def work() -> None:
        try:
            for file in section.collect(context, notes):
                files.append(file)  # one by one: those before a failure count
        except NotAvailable as reason:
            notes.missing.append(f"could not be asked: {reason}")
        except Exception as error:
            notes.missing.append(f"could not be asked: {type(error).__name__}: {error}")

    started = time.monotonic()
    thread = threading.Thread(target=work, name=f"diagnostics-{section.name}", daemon=True)
    thread.start()
    thread.join(section.seconds)
    taken = time.monotonic() - started
    # copies: a section that is left behind may go on adding
    brought, found = list(files), Notes(list(notes.findings), list(notes.missing))
    if thread.is_alive():
        found.missing.append(f"could not be asked to the end: it took longer than {section.seconds:g} s")
    if found.missing:
        brought.append((f"{section.name}/not-asked.txt", "".join(f"{line}\n" for line in found.missing)))
    return Result(section.name, brought, found, taken)
