"""The section with the doctor's examination: the command itself, as a person runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from biomeroworker.diagnostics.commands import ask
from biomeroworker.diagnostics.sections import Context, File, Notes

#: The front-end alone may take three minutes.
SECONDS = 240.0


def doctor(context: Context, notes: Notes) -> Iterator[File]:
    """What `biomeroworker doctor` prints; what it had printed when its time was over."""
    argv = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "doctor"]
    if context.config is not None:
        argv += ["--config", str(context.config)]
    answer = ask(argv, seconds=SECONDS, environ=context.environ)
    yield "doctor/doctor.txt", answer.text or "it printed nothing\n"
    failed = sum(line.startswith("fail") for line in answer.text.splitlines())
    if failed:
        notes.findings.append(f"findings that fail: {failed}, see doctor/doctor.txt")
    if answer.timed_out:
        notes.missing.append(f"the doctor did not end within {SECONDS:g} s; what it printed before is there")
    elif answer.code not in (0, 1):
        notes.missing.append(f"the doctor ended with status {answer.code}")
