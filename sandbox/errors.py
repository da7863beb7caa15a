"""What can go wrong while the sandbox is handled, in words for a terminal."""

from __future__ import annotations

from pathlib import Path


class SandboxError(Exception):
    """Something about the sandbox as a whole: its root folder, its options, the machine."""


class PartError(SandboxError):
    """One part failed; the message names it and shows the last lines of its log."""

    def __init__(self, part: str, message: str, log: Path | None = None, lines: int = 15) -> None:
        text = f"{part}: {message}"
        if log is not None and log.exists():
            tail = log.read_text(errors="replace").splitlines()[-lines:]
            text += f"\n  the end of {log}:" + "".join(f"\n    {line}" for line in tail)
        super().__init__(text)
        self.part = part
        self.log = log


class Unhealthy(Exception):
    """What a probe found wrong, in a few words."""
