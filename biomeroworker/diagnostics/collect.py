"""Collect all sections into one archive."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biomeroworker import __version__
from biomeroworker.config import Settings
from biomeroworker.diagnostics import host, sections
from biomeroworker.diagnostics.archive import Archive
from biomeroworker.diagnostics.doctor import SECONDS as DOCTOR_SECONDS
from biomeroworker.diagnostics.doctor import doctor
from biomeroworker.diagnostics.grid import grid
from biomeroworker.diagnostics.known_secrets import known_values
from biomeroworker.diagnostics.logs import logs
from biomeroworker.diagnostics.redaction import Redactor
from biomeroworker.diagnostics.run_log import run_log
from biomeroworker.diagnostics.sections import Context, Result, Section
from biomeroworker.errors import ConfigError

#: In the order of the archive.
SECTIONS = (
    Section("versions", 60.0, host.versions),
    Section("environment", 10.0, host.environment),
    Section("configuration", 20.0, host.configuration),
    Section("grid", 90.0, grid),
    Section("run-log", 60.0, run_log),
    Section("logs", 60.0, logs),
    Section("doctor", DOCTOR_SECONDS + 10.0, doctor),
)

#: The folder of OMERO.server in OMERO's image.
_SERVER = "/opt/omero/server/OMERO.server"
_FOLDER = "biomeroworker-diagnostics"


@dataclass(frozen=True)
class Collected:
    """The archive, and the text of its summary."""

    archive: Path
    summary: str


def collect(
    output: Path | None,
    config: Path | None,
    environ: Mapping[str, str],
    *,
    progress: Callable[[str], None] = lambda line: None,
    parts: Sequence[Section] = SECTIONS,
) -> Collected:
    """Write the archive.

    Parameters
    ----------
    output
        The file; by default one in the current folder with the time in its name.
    progress
        Called with a line per section.

    Raises
    ------
    biomeroworker.errors.RequestRejected
        The archive cannot be written.
    """
    now = datetime.datetime.now(datetime.UTC)
    target = output or Path(f"{_FOLDER}-{now:%Y%m%d-%H%M%S}.tar.gz")
    with Archive(target.absolute(), _FOLDER) as archive:
        context = context_of(config, environ)
        redact = redactor(context)
        results = []
        for section in parts:
            result = sections.run(section, context)
            results.append(result)
            state = "; ".join(result.notes.missing) or f"{len(result.files)} files"
            progress(redact(f"{section.name:<14}{result.seconds:6.1f} s  {state}"))
        summary = redact(_summary(results, now))
        contents = [("summary.txt", summary), *(file for result in results for file in result.files)]
        archive.save(contents, redact, time.time())
    return Collected(archive.target, summary)


def context_of(config: Path | None, environ: Mapping[str, str]) -> Context:
    """The input of the sections; an invalid configuration is part of it, not an error."""
    settings, error = None, ""
    try:
        settings = Settings.load(config, environ)
    except ConfigError as wrong:
        error = str(wrong)
    server = environ.get("OMERO_SERVER_FOLDER") or environ.get("OMERODIR") or _SERVER
    home = Path(environ.get("HOME") or Path.home())
    return Context(environ, config, settings, error, Path(server), home)


def redactor(context: Context) -> Redactor:
    """A redactor that knows the secrets of the context."""
    files = [*host.ini_files(context), *host.ice_files(context)]
    return Redactor(known_values(context.settings, context.environ, files, host.key_folders(context)))


def _summary(results: Sequence[Result], now: datetime.datetime) -> str:
    lines = [f"biomeroworker {__version__}, diagnostics of {now:%Y-%m-%d %H:%M:%S} UTC", ""]
    found = [f"* {result.name}: {line}" for result in results for line in result.notes.findings]
    if found:
        lines += ["Findings:", *found, ""]
    missing = [f"* {result.name}: {line}" for result in results for line in result.notes.missing]
    if missing:
        lines += ["Missing:", *missing, ""]
    lines += ["Files:", *(f"  {path}" for result in results for path, _ in result.files), ""]
    lines += [
        "Passwords, tokens, keys and session ids are replaced by ***. Of each UUID, only the first part is included.",
        "The files contain names of hosts, accounts, files and workflows: read them before you send the archive.",
    ]
    return "\n".join(lines) + "\n"
