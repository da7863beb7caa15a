"""Errors of the sandbox, with messages for the terminal."""

from __future__ import annotations

from pathlib import Path


class SandboxError(Exception):
    """An error of the sandbox: its root folder, its options, the machine."""


class PartError(SandboxError):
    """One part failed; the message names it and shows the last lines of its log."""

    def __init__(self, part: str, message: str, log: Path | None = None, lines: int = 15) -> None:
        text = f"{part}: {message}"
        if log is not None and log.exists():
            tail = log.read_text(errors="replace").splitlines()[-lines:]
            text += f"\n  last lines of {log}:" + "".join(f"\n    {line}" for line in tail)
        super().__init__(text)
        self.part = part
        self.log = log


class Unhealthy(Exception):
    """A part does not work; the message is the reason."""
