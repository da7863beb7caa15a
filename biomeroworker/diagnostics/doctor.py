"""The section with the output of the command ``biomeroworker doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from biomeroworker.diagnostics.commands import run_program
from biomeroworker.diagnostics.sections import Context, File, Notes

#: Time limit of the command; the queries to one front-end may take three minutes.
SECONDS = 240.0


def doctor(context: Context, notes: Notes) -> Iterator[File]:
    """The output of ``biomeroworker doctor``; after the time limit, the output until then."""
    argv = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "doctor"]
    if context.config is not None:
        argv += ["--config", str(context.config)]
    answer = run_program(argv, seconds=SECONDS, environ=context.environ)
    yield "doctor/doctor.txt", answer.text or "no output\n"
    failed = sum(line.startswith("fail") for line in answer.text.splitlines())
    if failed:
        notes.findings.append(f"findings that fail: {failed}, see doctor/doctor.txt")
    if answer.timed_out:
        notes.missing.append(f"the doctor did not end within {SECONDS:g} s; its output until then is in the archive")
    elif answer.code not in (0, 1):
        notes.missing.append(f"the doctor ended with status {answer.code}")
