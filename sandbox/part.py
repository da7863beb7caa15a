"""The base classes of the parts: start, stop, health, port and process ID of one daemon."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from sandbox.errors import PartError, Unhealthy
from sandbox.processes import MARKER, MARKER_PART, Process, marked, spawn
from sandbox.root import Root, port_is_free

TEMPLATES = Path(__file__).parent / "etc"

#: PATH of daemons and clients. Debian installs most daemons in sbin.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Part:
    """One part of the sandbox. Subclasses define its configuration, its command and its health check."""

    #: Unique; the name for ``--only``.
    name: str
    #: Names of the parts that must be healthy before this one starts.
    needs: tuple[str, ...] = ()
    #: Whether it starts only if ``--only`` or ``--with`` names it.
    optional = False
    #: The account that runs it; None: the account of the caller.
    user: str | None = None
    #: Whether it has a port, which is stored under its name.
    listens = True
    #: Whether its child processes must be ended before it starts again.
    owns_children = False
    #: Programs that it needs.
    programs: tuple[str, ...] = ()
    #: Seconds until it must be healthy after its start, and until it is killed at its stop.
    timeout_seconds = 20.0
    stop_signal = signal.SIGTERM

    def __init__(self, root: Root) -> None:
        self.root = root

    # -- for subclasses to define --------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write the configuration and create the folders; called before every start."""

    def command(self) -> list[str]:
        """The argv of the daemon, in the foreground."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Environment variables in addition to those of all parts."""
        return {}

    def ready(self) -> None:
        """Raise `Unhealthy` until `initialize` can run."""
        self.probe()

    def initialize(self) -> None:
        """Create accounts and databases in the running part, if they do not exist."""

    def probe(self) -> str:
        """Use the part as a client does. Returns a short description, or raises `Unhealthy`."""
        raise NotImplementedError

    def before_down(self) -> None:
        """Called before any part is stopped."""

    def purge(self) -> None:
        """Remove the files and accounts of the part outside the root."""

    # -- the same for all parts ----------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port of the part."""
        return self.root.port(self.name)

    @property
    def log(self) -> Path:
        """The file with the output of the part."""
        return self.root.log(self.name)

    def process(self) -> Process | None:
        """The process; None if it does not run."""
        return Process.recorded(self.root.pid_file(self.name))

    def pid(self) -> int | None:
        """The process ID; None if it does not run."""
        process = self.process()
        return process.pid if process else None

    def health(self) -> str:
        """The description from `probe`; raises `Unhealthy`."""
        if self.process() is None:
            raise Unhealthy("not running")
        return self.probe()

    def is_healthy(self) -> bool:
        """Whether the part works."""
        try:
            self.health()
        except Unhealthy:
            return False
        return True

    def start(self) -> bool:
        """Start the part; False if it was running. Raises `PartError`."""
        if self.is_healthy():
            return False
        process = self.process()
        if process is None:
            process = self._launch()
        self.wait(self.ready, process)
        self.initialize()
        self.wait(self.probe, process)
        return True

    def _launch(self) -> Process:
        for program in self.programs:
            if shutil.which(program, path=PATH) is None and not Path(program).exists():
                raise PartError(self.name, f"{program} is not installed: run tools/install-packages")
        if self.listens and not port_is_free(self.port):
            raise PartError(
                self.name,
                f"port {self.port} on 127.0.0.1 is in use by another process; "
                f"end that process, or choose another port with --port {self.name}=NUMBER",
            )
        if self.owns_children:
            for orphan in marked(self.root.path, self.name):
                orphan.stop(5)
        self.prepare()
        mark = {MARKER: str(self.root.path), MARKER_PART: self.name}
        base = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/"), **mark}
        process = spawn(self.command(), self.log, {**base, **self.environment()}, cwd=self.root.path, user=self.user)
        process.record(self.root.pid_file(self.name))
        return process

    def wait(self, check: Callable[[], object], process: Process | None = None) -> None:
        """Repeat ``check`` until it does not raise `Unhealthy`; `PartError` if the process ends, or at a timeout."""
        deadline = time.monotonic() + self.timeout_seconds
        pause = 0.02
        while True:
            if process is not None and not process.alive():
                raise PartError(self.name, "the process ended right after its start", self.log)
            try:
                check()
                return
            except Unhealthy as why:
                if time.monotonic() > deadline:
                    message = f"not healthy after {self.timeout_seconds:.0f} s: {why}"
                    raise PartError(self.name, message, self.log) from why
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def stop(self) -> bool:
        """Stop the part; False if it did not run."""
        process = self.process()
        if process is not None:
            process.stop(self.timeout_seconds, self.stop_signal)
        self.root.pid_file(self.name).unlink(missing_ok=True)
        return process is not None

    # -- helpers for subclasses ----------------------------------------------------------------------------------

    def write(self, template: str, target: Path, values: Mapping[str, object]) -> Path:
        """Fill a template of ``sandbox/etc`` and write it."""
        target.write_text(Template((TEMPLATES / template).read_text()).substitute(values))
        return target

    def run_client(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        text: str = "",
        user: str | None = None,
        timeout: float = 5,
    ) -> str:
        """Run a client program, as ``user`` if given, and return its output; raises `Unhealthy` with its last error."""
        account: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
        try:
            done = subprocess.run(
                list(argv),
                env={"PATH": PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/"), **(env or {})},
                cwd="/",
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout,
                **account,
            )
        except subprocess.TimeoutExpired as error:
            raise Unhealthy(f"{Path(argv[0]).name}: no answer within {timeout:.0f} s") from error
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            errors = [line for line in lines[:-1] if "[ERROR]" in line][-3:]
            raise Unhealthy(f"{Path(argv[0]).name}: {'; '.join([*errors, lines[-1]])}")
        return str(done.stdout)

    def must_run(self, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> str:
        """Run a program and return its output; raises `PartError` if it fails."""
        try:
            return self.run_client(argv, env, **options)
        except Unhealthy as why:
            raise PartError(self.name, str(why), self.log) from why


class Provision(Part):
    """A part without a daemon, such as an account: created, checked and undone."""

    listens = False

    def create(self) -> None:
        """Create it."""
        raise NotImplementedError

    def undo(self) -> bool:
        """Undo what must not remain after `down`; False if there was nothing to undo."""
        return False

    def health(self) -> str:
        """The description from `probe`; raises `Unhealthy`."""
        return self.probe()

    def start(self) -> bool:
        """Create it if it does not exist; False if it exists."""
        if self.is_healthy():
            return False
        self.create()
        try:
            self.probe()
        except Unhealthy as why:
            raise PartError(self.name, str(why), self.log) from why
        return True

    def stop(self) -> bool:
        """Undo what must not remain after `down`."""
        return self.undo()
