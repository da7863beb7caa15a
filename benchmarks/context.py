"""The context of a benchmark: sandbox, working folder, Python environments, data size and number of repetitions."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from benchmarks import incumbent
from sandbox.env import variables
from sandbox.root import Root

CHECKOUT = Path(__file__).parents[1]
PROGRAMS = Path(__file__).with_name("programs")


@dataclass
class Context:
    """The options and resources that each benchmark gets."""

    folder: Path
    sandbox: Path
    console: Console
    tiny: bool = False
    repeats: int = 3
    alone: bool = False
    fraction: float = 1.0
    loads: list[float] = field(default_factory=list)

    def size(self, full: int, tiny: int) -> int:
        """Select the full size, or the size for ``--tiny``."""
        return tiny if self.tiny else full

    @property
    def times(self) -> int:
        """Number of measurements."""
        return 1 if self.tiny else self.repeats

    def report(self, word: str) -> None:
        """Print progress, and sample the load average."""
        self.loads.append(os.getloadavg()[0])
        self.console.print(f"  [dim]{datetime.now(UTC):%H:%M:%S} {word}[/dim]")

    # -- the two sides ------------------------------------------------------------------------------------------------

    @cached_property
    def pythons(self) -> dict[str, Path]:
        """The Python interpreters of biomeroworker and, unless ``alone``, of the incumbent."""
        sides = {"ours": Path(sys.executable)}
        if not self.alone:
            self.report("the incumbent's environment")
            sides["theirs"] = incumbent.incumbent()
        return sides

    def program(self, kind: str, name: str, *words: str) -> list[str]:
        """A program of ``programs/`` in the environment of one side."""
        return [str(self.pythons[kind]), "-W", "ignore", str(PROGRAMS / f"{name}.py"), *words]

    def run_program(self, kind: str, name: str, *words: str, seconds: float = 900) -> Any:
        """Run such a program and return the JSON of its last output line."""
        done = subprocess.run(
            self.program(kind, name, *words),
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=self.folder,
            env=environment(kind),
        )
        if done.returncode:
            raise RuntimeError(f"{name} of {kind}: {done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    # -- the machine's parts ------------------------------------------------------------------------------------------

    def up(self, *parts: str) -> dict[str, str]:
        """Start parts of the sandbox and return the variables that describe them."""
        command = [sys.executable, "-m", "sandbox", "up", "--root", str(self.sandbox), "--only", ",".join(parts)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"the sandbox did not start: {done.stdout}{done.stderr}")
        return variables(Root(self.sandbox))

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of an empty database on PostgreSQL."""
        if "_server" not in self.__dict__:
            self.__dict__["_server"] = self.up("postgres")["SQLALCHEMY_URL"]
        server = create_engine(self.__dict__["_server"], isolation_level="AUTOCOMMIT")
        name = f"bench_{uuid.uuid4().hex[:12]}"
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield make_url(self.__dict__["_server"]).set(database=name).render_as_string(hide_password=False)
        finally:
            with server.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            server.dispose()

    def work(self, name: str) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    @contextmanager
    def in_memory(self, name: str, size: int) -> Iterator[Path]:
        """A new folder in memory if ``size`` bytes fit there, otherwise on disk."""
        shared = Path("/dev/shm")
        roomy = shared.is_dir() and shutil.disk_usage(shared).free > size
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", dir=shared if roomy else self.folder) as folder:
            yield Path(folder)

    def conditions(self) -> dict[str, str]:
        """Date, machine, load and versions of the measurement."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        load = f"{min(self.loads):.1f} to {max(self.loads):.1f}" if self.loads else "?"
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "machine": f"{os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release().split('-')[0]}",
            "load average": load,
            "Python": platform.python_version(),
            "biomeroworker": f"{importlib.metadata.version('biomeroworker')} {_commit()}".strip(),
            "biomero": "not measured" if self.alone else incumbent.VERSION,
        }


def environment(kind: str) -> dict[str, str]:
    """Environment variables of a program: ``ours`` imports this checkout, ``theirs`` must not."""
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return others | ({"PYTHONPATH": str(CHECKOUT)} if kind == "ours" else {})


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True)
    return done.stdout.strip()
