"""All parts of a sandbox: selection, start in order, status, stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import PartError, SandboxError, Unhealthy
from sandbox.part import Part
from sandbox.parts import GROUPS, PARTS
from sandbox.processes import marked
from sandbox.root import Root


@dataclass(frozen=True)
class Health:
    """The status of one part."""

    part: str
    port: int | None
    pid: int | None
    healthy: bool
    detail: str


def require_root() -> None:
    """Raise `SandboxError` if this process is not root."""
    if os.geteuid() != 0:
        raise SandboxError("the sandbox needs root, because its daemons run under different accounts")


def expand(names: Iterable[str]) -> set[str]:
    """The names of parts for names of parts and groups."""
    known = {part.name for part in PARTS}
    found: set[str] = set()
    for name in names:
        if name not in known and name not in GROUPS:
            raise SandboxError(f"unknown part {name}; choose from: {', '.join([*sorted(GROUPS), *sorted(known)])}")
        found.update(GROUPS.get(name, (name,)))
    return found


class Sandbox:
    """A sandbox."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.parts: dict[str, Part] = {part.name: part(root) for part in PARTS}

    def choose(self, only: Sequence[str] = (), without: Sequence[str] = (), optional: Sequence[str] = ()) -> list[Part]:
        """The requested parts and the parts that they need, in the order of their start.

        Without ``only``, these are all parts that are not optional, and ``optional``.
        """
        wanted = expand(only) if only else {name for name, part in self.parts.items() if not part.optional}
        wanted |= expand(optional)
        wanted -= expand(without)
        for part in reversed(list(self.parts.values())):  # a part only needs earlier parts
            if part.name in wanted:
                wanted.update(part.needs)
        return [part for part in self.parts.values() if part.name in wanted]

    def use_ports(self, given: Mapping[str, int]) -> None:
        """Set the ports of parts that do not run."""
        for name, port in given.items():
            if (part := self.parts.get(name)) is None or not part.listens:
                listening = ", ".join(part.name for part in self.parts.values() if part.listens)
                raise SandboxError(f"{name} has no port; parts with a port: {listening}")
            if part.process() is not None and port != self.root.known_port(name):
                raise SandboxError(f"{name} runs on port {self.root.known_port(name)}: stop the sandbox to change it")
        self.root.set_ports(given)

    def up(self, parts: Sequence[Part], report: Callable[[str], None]) -> None:
        """Start the parts that do not run. Stops at the first failure; the other parts continue to run."""
        for folder in ("run", "log", "etc"):
            self.root.folder(folder)
        requested = set(self.root.requested_parts()) | {part.name for part in parts}
        self.root.remember_requested([name for name in self.parts if name in requested])
        for part in parts:
            started = time.monotonic()
            try:
                was_down = part.start()
            except Unhealthy as why:
                raise PartError(part.name, str(why), part.log) from why
            if was_down:
                report(f"{part.name} is up ({time.monotonic() - started:.1f} s)")

    def status(self) -> list[Health]:
        """Check all requested parts in parallel."""
        chosen = [self.parts[name] for name in self.root.requested_parts() if name in self.parts]

        def check(part: Part) -> Health:
            port = self.root.known_port(part.name)
            try:
                return Health(part.name, port, part.pid(), True, part.health())
            except (Unhealthy, SandboxError) as why:
                return Health(part.name, port, part.pid(), False, str(why))

        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(check, chosen))

    def down(self, report: Callable[[str], None], purge: bool = False) -> None:
        """Stop all parts in reverse order and end remaining processes; with ``purge`` also remove all data."""
        parts = list(reversed(self.parts.values()))
        for part in parts:
            if part.process() is not None:
                part.before_down()
        for part in parts:
            if part.stop():
                report(f"{part.name} is down")
        for process in marked(self.root.path):
            report(f"ended remaining process {process.name()} ({process.pid})")
            process.stop(2)
        self._unmount()
        if purge:
            for part in parts:
                part.purge()
            shutil.rmtree(self.root.path)
            report(f"{self.root.path} is removed")

    def _unmount(self) -> None:
        """Unmount file systems below the root, innermost first."""
        points = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((p for p in points if self.root.path in p.parents), reverse=True):
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "--lazy", str(point)], check=True)
