"""All parts of one sandbox together: which are asked for, in what order they start, how all is taken down."""

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
    """What `status` shows of one part."""

    part: str
    port: int | None
    pid: int | None
    healthy: bool
    detail: str


def insist_on_root() -> None:
    """Raises `SandboxError` for whoever may not start daemons under accounts of their own."""
    if os.geteuid() != 0:
        raise SandboxError("the sandbox needs root: its daemons run under accounts of their own")


def expand(names: Iterable[str]) -> set[str]:
    """Part names for part and group names."""
    known = {part.name for part in PARTS}
    found: set[str] = set()
    for name in names:
        if name not in known and name not in GROUPS:
            raise SandboxError(f"no part is called {name}; there are {', '.join([*sorted(GROUPS), *sorted(known)])}")
        found.update(GROUPS.get(name, (name,)))
    return found


class Sandbox:
    """One sandbox."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self.parts: dict[str, Part] = {part.name: part(root) for part in PARTS}

    def choose(self, only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Part]:
        """The parts asked for and all that they need, in starting order."""
        wanted = expand(only) if only else set(self.parts)
        wanted -= expand(without)
        for part in reversed(list(self.parts.values())):  # needs point backwards only
            if part.name in wanted:
                wanted.update(part.needs)
        return [part for part in self.parts.values() if part.name in wanted]

    def use_ports(self, given: Mapping[str, int]) -> None:
        """Use these ports for parts that do not run yet."""
        for name, port in given.items():
            if (part := self.parts.get(name)) is None or not part.listens:
                listening = ", ".join(part.name for part in self.parts.values() if part.listens)
                raise SandboxError(f"{name} has no port; these have: {listening}")
            if part.process() is not None and port != self.root.known_port(name):
                raise SandboxError(f"{name} runs on port {self.root.known_port(name)}: take it down to change that")
        self.root.set_ports(given)

    def up(self, parts: Sequence[Part], say: Callable[[str], None]) -> None:
        """Start what is down. Stops at the first part that fails; what runs stays for a look."""
        for folder in ("run", "log", "etc"):
            self.root.folder(folder)
        asked = set(self.root.asked()) | {part.name for part in parts}
        self.root.remember_asked([name for name in self.parts if name in asked])
        for part in parts:
            began = time.monotonic()
            try:
                fresh = part.start()
            except Unhealthy as why:
                raise PartError(part.name, str(why), part.log) from why
            if fresh:
                say(f"{part.name} is up ({time.monotonic() - began:.1f} s)")

    def status(self) -> list[Health]:
        """Ask every part that was ever asked for, all at once."""
        chosen = [self.parts[name] for name in self.root.asked() if name in self.parts]

        def look(part: Part) -> Health:
            port = self.root.known_port(part.name)
            try:
                return Health(part.name, port, part.pid(), True, part.health())
            except (Unhealthy, SandboxError) as why:
                return Health(part.name, port, part.pid(), False, str(why))

        with ThreadPoolExecutor(max_workers=8) as pool:
            return list(pool.map(look, chosen))

    def down(self, say: Callable[[str], None], purge: bool = False) -> None:
        """Stop everything that was started here, newest first, and what it left; with `purge` remove all data too."""
        parts = list(reversed(self.parts.values()))
        for part in parts:
            if part.process() is not None:
                part.before_down()
        for part in parts:
            if part.stop():
                say(f"{part.name} is down")
        for process in marked(self.root.path):
            say(f"ended {process.name()} ({process.pid}), left behind")
            process.stop(2)
        self._unmount()
        if purge:
            for part in parts:
                part.purge()
            shutil.rmtree(self.root.path)
            say(f"{self.root.path} is removed")

    def _unmount(self) -> None:
        """Take away mounts below the root, innermost first."""
        points = [Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((p for p in points if self.root.path in p.parents), reverse=True):
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "--lazy", str(point)], check=True)
