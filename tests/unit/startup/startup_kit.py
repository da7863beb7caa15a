"""Run the startup scripts outside a container: a folder for everything that they touch, and programs in their place."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
SCRIPTS = CHECKOUT / "startup"
UNPRIVILEGED_UID = 65534
AS_UNPRIVILEGED = ("setpriv", f"--reuid={UNPRIVILEGED_UID}", f"--regid={UNPRIVILEGED_UID}", "--clear-groups")


class Box:
    """A temporary folder with a home, an OMERO.server folder, programs and the variables that point there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts = folder / "startup"
        shutil.copytree(SCRIPTS, self.scripts)
        for name in ("home", "server", "bin", "venv/bin", "mount"):
            (folder / name).mkdir(parents=True)
        self.home, self.mount, self.server = folder / "home", folder / "mount", folder / "server"
        self.ssh = self.home / ".ssh"
        self.variables = {
            "PATH": f"{folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "STARTUP_FOLDER": str(self.scripts),
            "STARTUP_STATE_FOLDER": str(folder / "state"),
            "SSH_SOURCE": str(self.mount),
            "OMERO_SERVER_FOLDER": str(self.server),
            "BIOMEROWORKER_VENV": str(folder / "venv"),
            "SLURM_CONFIG_ETC": str(folder / "slurm-config.ini"),
        }
        (folder / "slurm-config.ini").write_text("[SSH]\nhost = hpc\n")
        self.program("venv/bin/biomeroworker", 'echo "$@" >> "$HOME/called"; [ "$1" = config ] || exec sleep 600')
        self.program("venv/bin/python", "echo /the/modules")
        self.program("bin/icegridnode", "exec sleep 600")
        self.program("bin/icegridadmin", "echo 'node is up'")

    def program(self, name: str, body: str) -> None:
        """A program in bash in the place of a real one; replaced while it runs without harm."""
        new = self.folder / f"{name}.new"
        new.write_text(f"#!/bin/bash\n{body}\n")
        new.chmod(0o755)
        new.rename(self.folder / name)

    def run(
        self, script: str, *arguments: str, prefix: tuple[str, ...] = (), **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts to its end."""
        return subprocess.run(
            [*prefix, "bash", str(self.scripts / script), *arguments],
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=30,
            cwd="/",
        )

    @property
    def calls(self) -> list[str]:
        """The commands of `biomeroworker` that were run."""
        file = self.home / "called"
        return file.read_text().splitlines() if file.exists() else []

    def state(self, service: str) -> int:
        """The process id of a service that runs."""
        return int((self.folder / "state" / f"{service}.pid").read_text())


def node_variables(port: int = 4061, **more: str) -> dict[str, str]:
    """A node whose master is this machine."""
    return {
        "CONFIG_omero_master_host": "127.0.0.1",
        "CONFIG_omero_master_port": str(port),
        "OMERO_WORKER_NAME": "worker-1",
        **more,
    }


class Running:
    """99-run.sh, after 20-config.sh, as a process whose lines are read while it runs."""

    def __init__(self, box: Box, prefix: tuple[str, ...] = (), script: Path | None = None, **variables: str) -> None:
        quick = {
            "MASTER_REPORT_SECONDS": "1",
            "MASTER_CHECK_SECONDS": "0.2",
            "TICK_SECONDS": "0.1",
            "RESTART_DELAY_SECONDS": "1",
            "STOP_SECONDS": "2",
        }
        self.log = box.folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, "bash", str(script or box.scripts / "entrypoint.sh")],
                env={**box.variables, "SSH_SOURCE": "", **quick, **variables},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
            )

    @property
    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, what: str | Callable[[], object], seconds: float = 10) -> None:
        """Wait for a text in the log, or until a function returns something true."""
        end = time.monotonic() + seconds
        while not (what in self.text if isinstance(what, str) else what()):
            assert time.monotonic() < end, f"{what} did not come:\n{self.text}"
            assert self.process.poll() is None or what in self.text, f"ended before {what}:\n{self.text}"
            time.sleep(0.05)

    def stop(self, seconds: float = 15) -> tuple[int, float]:
        """Send SIGTERM; its status and the seconds that it took."""
        started = time.monotonic()
        self.process.terminate()
        status = self.process.wait(seconds)
        return status, time.monotonic() - started


@contextmanager
def running(box: Box, prefix: tuple[str, ...] = (), script: Path | None = None, **variables: str) -> Iterator[Running]:
    """The services of a container while the block runs."""
    run = Running(box, prefix, script, **variables)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.stop()


@contextmanager
def master(greeting: bytes = b"IceP", port: int = 0) -> Iterator[int]:
    """A master's registry as far as waiting for it goes: it greets each connection. Yields its port."""
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        stop = threading.Event()

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def modes(folder: Path) -> dict[str, int]:
    """The mode of each file and folder below one, and of itself."""
    return {str(path.relative_to(folder)): path.lstat().st_mode & 0o7777 for path in (folder, *folder.rglob("*"))}
