"""What all parts share: start, stop, health, port and pid of one process that stays."""

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

#: What daemons and probes find programs on; Debian keeps most daemons in sbin.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Part:
    """One part of the sandbox. Subclasses say how it is configured, started and asked for its health."""

    #: Unique, and what ``--only`` takes.
    name: str
    #: Names of the parts that must be healthy before this one starts.
    needs: tuple[str, ...] = ()
    #: The account it runs as; None is the one who calls.
    user: str | None = None
    #: Whether it listens on a port of its own, remembered under its name.
    listens = True
    #: Whether processes that it started must end with it, so that none is left when it starts again.
    owns_children = False
    #: Programs without which it cannot start.
    programs: tuple[str, ...] = ()
    #: Seconds until it must be healthy, and until it is killed when asked to end.
    patience = 20.0
    stop_signal = signal.SIGTERM

    def __init__(self, root: Root) -> None:
        self.root = root

    # -- what a subclass says ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write the configuration and make the folders; run before every start."""

    def command(self) -> list[str]:
        """The process to start, in the foreground."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """What the process needs beyond the few variables that all get."""
        return {}

    def ready(self) -> None:
        """Raise `Unhealthy` until `settle` can run."""
        self.probe()

    def settle(self) -> None:
        """Make what must exist inside the running part (accounts, databases); harmless when repeated."""

    def probe(self) -> str:
        """Use the part as a client would; say in a few words what was seen, or raise `Unhealthy`."""
        raise NotImplementedError

    def before_down(self) -> None:
        """Run before any part is stopped, while all that it needs still works."""

    def purge(self) -> None:
        """Remove what the part left outside the root."""

    # -- what all parts do ---------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.root.port(self.name)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.root.log(self.name)

    def process(self) -> Process | None:
        """The running process, if it runs."""
        return Process.recorded(self.root.pid_file(self.name))

    def pid(self) -> int | None:
        """Its pid, if it runs."""
        process = self.process()
        return process.pid if process else None

    def health(self) -> str:
        """What the probe saw; raises `Unhealthy`."""
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
        """Bring it up; False when it was up already. Raises `PartError`."""
        if self.is_healthy():
            return False
        process = self.process()
        if process is None:
            process = self._launch()
        self.wait(self.ready, process)
        self.settle()
        self.wait(self.probe, process)
        return True

    def _launch(self) -> Process:
        for program in self.programs:
            if shutil.which(program, path=PATH) is None and not Path(program).exists():
                raise PartError(
                    self.name, f"{program} is not installed (tools/install-packages installs what is needed)"
                )
        if self.listens and not port_is_free(self.port):
            raise PartError(
                self.name,
                f"port {self.port} on 127.0.0.1 is in use by another process; "
                f"free it, or give another with --port {self.name}=NUMBER",
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

    def wait(self, question: Callable[[], object], process: Process | None = None) -> None:
        """Ask until the answer is not `Unhealthy`, the process is gone, or patience ends."""
        deadline = time.monotonic() + self.patience
        pause = 0.02
        while True:
            if process is not None and not process.alive():
                raise PartError(self.name, "ended as soon as it was started", self.log)
            try:
                question()
                return
            except Unhealthy as why:
                if time.monotonic() > deadline:
                    raise PartError(self.name, f"not healthy after {self.patience:.0f} s: {why}", self.log) from why
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def stop(self) -> bool:
        """End it; False when it did not run."""
        process = self.process()
        if process is not None:
            process.stop(self.patience, self.stop_signal)
        self.root.pid_file(self.name).unlink(missing_ok=True)
        return process is not None

    # -- helpers for subclasses ----------------------------------------------------------------------------------

    def write(self, template: str, target: Path, values: Mapping[str, object]) -> Path:
        """Fill a template of ``sandbox/etc`` and write it."""
        target.write_text(Template((TEMPLATES / template).read_text()).substitute(values))
        return target

    def ask(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        text: str = "",
        user: str | None = None,
        timeout: float = 5,
    ) -> str:
        """Run a client program, as `user` if one is named; its output, or `Unhealthy` with its last complaint."""
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
        except subprocess.TimeoutExpired as gone:
            raise Unhealthy(f"{Path(argv[0]).name} got no answer within {timeout:.0f} s") from gone
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            errors = [line for line in lines[:-1] if "[ERROR]" in line][-3:]
            raise Unhealthy(f"{Path(argv[0]).name}: {'; '.join([*errors, lines[-1]])}")
        return str(done.stdout)

    def insist(self, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: Any) -> str:
        """Run a program that must succeed; its output, or `PartError`."""
        try:
            return self.ask(argv, env, **options)
        except Unhealthy as why:
            raise PartError(self.name, str(why), self.log) from why


class Provision(Part):
    """A part that is no process: something on the machine that is made, looked at and taken back."""

    listens = False

    def make(self) -> None:
        """Make it."""
        raise NotImplementedError

    def take_back(self) -> bool:
        """Undo what must not outlast `down`; False when nothing was to be undone."""
        return False

    def health(self) -> str:
        """What the probe saw; raises `Unhealthy`."""
        return self.probe()

    def start(self) -> bool:
        """Make it unless it is there."""
        if self.is_healthy():
            return False
        self.make()
        try:
            self.probe()
        except Unhealthy as why:
            raise PartError(self.name, str(why), self.log) from why
        return True

    def stop(self) -> bool:
        """Take back what must not outlast `down`."""
        return self.take_back()
