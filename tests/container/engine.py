"""A Docker Engine for the tests: the one that is there, or one that is started for this run and stopped at its end.

Order: ``DOCKER_HOST``; the engine that answers on Docker's usual socket; a ``dockerd`` started by hand (as root) with
its data in the cache folder. Docker's programs are Debian's: other builds of the command line lack BuildKit.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.workflow.rootfs import cache_folder

DOCKER = "/usr/bin/docker"
COMPOSE = "/usr/bin/docker-compose"
USUAL_SOCKET = Path("/var/run/docker.sock")

COMMAND_SECONDS = 120
START_SECONDS = 60
STOP_SECONDS = 60


class EngineError(Exception):
    """A command of Docker failed, or there is no engine."""


@dataclass(frozen=True)
class Result:
    """How a command ended; ``output`` is its standard output, ``errors`` its standard error."""

    status: int
    output: str
    errors: str


@dataclass(frozen=True)
class Engine:
    """Docker's command line, aimed at one engine."""

    host: str

    @property
    def environment(self) -> dict[str, str]:
        """What every command gets. `docker-compose` finds `docker` on the path."""
        return {
            **os.environ,
            "DOCKER_HOST": self.host,
            "DOCKER_BUILDKIT": "1",
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            "PATH": f"/usr/bin:{os.environ['PATH']}",
        }

    def attempt(
        self,
        *argv: str | Path,
        timeout: float = COMMAND_SECONDS,
        program: str = DOCKER,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        given: str | None = None,
    ) -> Result:
        """Run a command of Docker and return how it ended. ``given`` is its standard input."""
        command = [program, *map(str, argv)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                env={**self.environment, **(environment or {})},
                cwd=folder,
                input="" if given is None else given,
            )
        except FileNotFoundError as missing:
            raise EngineError(f"{program} is missing: tools/install-packages packages-container.txt") from missing
        except subprocess.TimeoutExpired as late:
            output = (late.stderr or b"").decode(errors="replace")
            raise EngineError(f"{' '.join(command)} took more than {timeout:.0f} s\n{_tail(output)}") from late
        return Result(done.returncode, done.stdout, done.stderr)

    def run(self, *argv: str | Path, **options: Any) -> str:
        """Run a command of Docker and return its standard output; raises EngineError with the end of what it wrote."""
        done = self.attempt(*argv, **options)
        if done.status:
            raise EngineError(f"docker {' '.join(map(str, argv))} ended with {done.status}\n{_tail(done.errors)}")
        return done.output.strip()

    def compose(self, *argv: str | Path, **options: Any) -> str:
        """Run `docker-compose`; the options are those of `attempt`."""
        return self.run(*argv, program=COMPOSE, **options)

    def inspect(self, name: str) -> dict[str, Any]:
        """The description of one image, container, network or volume."""
        found: list[dict[str, Any]] = json.loads(self.run("inspect", name))
        return found[0]

    def has_image(self, tag: str) -> bool:
        return self.attempt("image", "inspect", tag).status == 0

    def logs(self, container: str) -> str:
        """Both streams of a container's log, one after the other."""
        done = self.attempt("logs", container)
        return done.output + done.errors

    def execute(self, container: str, *argv: str, **options: Any) -> str:
        """Run a command in a running container."""
        return self.run("exec", container, *argv, **options)

    def in_image(self, image: str, *argv: str, user: str | None = None, timeout: float = COMMAND_SECONDS) -> Result:
        """Run one command in a new container of an image, without the image's entry point; the container is removed."""
        account = ["--user", user] if user else []
        return self.attempt(
            "run", "--rm", "--network=none", *account, f"--entrypoint={argv[0]}", image, *argv[1:], timeout=timeout
        )


@contextmanager
def engine() -> Iterator[Engine]:
    """The engine to use; one that was started here is stopped at the end, with all its containers."""
    if host := os.environ.get("DOCKER_HOST"):
        found = Engine(host)
        if not _answers(found):
            raise EngineError(f"no Docker Engine answers at DOCKER_HOST={host}: start it, or unset the variable")
        yield found
    elif USUAL_SOCKET.exists() and _answers(found := Engine(f"unix://{USUAL_SOCKET}")):
        yield found
    else:
        with _own_engine() as started:
            yield started


@contextmanager
def _own_engine() -> Iterator[Engine]:
    if os.geteuid() != 0:
        raise EngineError("Docker Engine is started by root only: run as root, or set DOCKER_HOST to a running engine")
    if shutil.which("dockerd") is None:
        raise EngineError("dockerd is missing: tools/install-packages packages-container.txt")
    root = cache_folder() / "docker"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="docker-", dir="/run") as run:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            raise EngineError(f"another run of these tests uses {root}: wait for its end") from busy
        socket, log = Path(run) / "docker.sock", root / "dockerd.log"
        argv = [
            "dockerd", "--data-root", str(root / "data"), "--exec-root", f"{run}/exec",
            "--pidfile", f"{run}/docker.pid", "--host", f"unix://{socket}",
        ]  # fmt: skip
        with log.open("w") as output:
            daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            started = Engine(f"unix://{socket}")
            _wait(daemon, started, log)
            yield started
        finally:
            _stop(daemon, log)


def _answers(candidate: Engine) -> bool:
    return candidate.attempt("version", "--format", "{{.Server.Version}}", timeout=20).status == 0


def _wait(daemon: subprocess.Popen[bytes], started: Engine, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(started):
        if daemon.poll() is not None:
            raise EngineError(f"dockerd ended with {daemon.returncode}:\n{_tail(log.read_text())}")
        if time.monotonic() > deadline:
            raise EngineError(f"dockerd does not answer after {START_SECONDS} s:\n{_tail(log.read_text())}")
        time.sleep(0.2)


def _stop(daemon: subprocess.Popen[bytes], log: Path) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
        raise EngineError(f"dockerd did not stop within {STOP_SECONDS} s: killed\n{_tail(log.read_text())}") from None


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-40:])
