"""The folder that holds one sandbox, and what it remembers: its tag, ports and passwords."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import string
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.errors import SandboxError

#: Below the range from which the kernel takes ports for outgoing connections, so that a remembered port stays free.
PORTS = (20000, 30000)

#: Unix sockets live under the root, and their paths end at 107 bytes.
LONGEST_ROOT = 70


def default_root() -> Path:
    """``$SANDBOX_ROOT``, else a folder under the user's state home, else (root's home is closed) under ``/var/lib``.

    The database, the cluster and its user run under accounts of their own, and must be able to walk down to it.
    """
    if given := os.environ.get("SANDBOX_ROOT"):
        return Path(given)
    state_home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    wanted = state_home / "biomeroworker/sandbox"
    return wanted if _closed_ancestor(wanted) is None else Path("/var/lib/biomeroworker/sandbox")


def _closed_ancestor(path: Path) -> Path | None:
    """The first existing folder on the way to `path` that other accounts cannot walk through."""
    for folder in (path, *path.parents):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


class Root:
    """One sandbox's folder. Opening it makes the folder; nothing else is started or changed."""

    def __init__(self, path: Path) -> None:
        self.path = path = path.absolute()
        if len(str(path)) > LONGEST_ROOT:
            raise SandboxError(f"the path of the root is too long for Unix sockets (over {LONGEST_ROOT} bytes): {path}")
        if set(str(path)) - set(string.ascii_letters + string.digits + "/._-"):
            raise SandboxError(f"the path of the root may hold letters, digits and . _ - only: {path}")
        if closed := _closed_ancestor(path):
            raise SandboxError(f"{closed} is closed to other accounts, so nothing under it can be a sandbox's root")
        self._file = path / "state.json"
        self._state: dict[str, Any] = {}
        self.reload()

    @property
    def exists(self) -> bool:
        """Whether `up` ran here."""
        return self._file.exists()

    def reload(self) -> None:
        """Read what the folder remembers."""
        if not self.exists:
            return
        try:
            self._state = json.loads(self._file.read_text())
        except PermissionError as closed:
            raise SandboxError(
                f"{self._file} holds passwords: only the one who started the sandbox reads it"
            ) from closed

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep every other `up` and `down` of this root waiting."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = self.path / "lock"
        with lock.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.reload()
            if not self.exists:
                self._state = {"ports": {}, "secrets": {}}
                self._save()
            yield

    def _save(self) -> None:
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self._state, indent=1) + "\n")
        new.rename(self._file)

    @property
    def tag(self) -> str:
        """Four letters that tell this root from others: in the names of its account and its nodes."""
        digest = hashlib.sha256(str(self.path).encode()).digest()
        return "".join(string.ascii_lowercase[byte % 26] for byte in digest[:4])

    def folder(self, name: str, mode: int = 0o755, owner: str | None = None) -> Path:
        """A folder below the root, made with this mode and owner when it is not there."""
        path = self.path / name
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(mode)
            if owner:
                shutil.chown(path, owner, owner)
        return path

    def log(self, part: str) -> Path:
        """Where a part's output goes."""
        return self.path / "log" / f"{part}.log"

    def pid_file(self, part: str) -> Path:
        """Where a part's process is remembered."""
        return self.path / "run" / f"{part}.pid"

    def secret(self, name: str) -> str:
        """A password, made when it is first asked for; letters and digits only."""
        if name not in self._state["secrets"]:
            self._state["secrets"][name] = secrets.token_hex(12)
            self._save()
        return str(self._state["secrets"][name])

    def port(self, name: str) -> int:
        """The port of a part, chosen free when it is first asked for and kept from then on."""
        ports = self._state.get("ports", {})
        if name not in ports:
            taken = set(ports.values())
            ports[name] = free_port(taken)
            self._save()
        return int(ports[name])

    def known_port(self, name: str) -> int | None:
        """The port of a part if it was chosen."""
        port = self._state.get("ports", {}).get(name)
        return None if port is None else int(port)

    def asked(self) -> list[str]:
        """The parts that `up` was ever asked for."""
        return list(self._state.get("parts", []))

    def remember_asked(self, names: Sequence[str]) -> None:
        """Remember them."""
        if names != self.asked():
            self._state["parts"] = list(names)
            self._save()

    def set_ports(self, given: Mapping[str, int]) -> None:
        """Use these ports from now on."""
        self._state["ports"].update(given)
        self._save()


def free_port(taken: Collection[int] = ()) -> int:
    """A port on which nothing listens, of those that ``$SANDBOX_PORTS`` (``FIRST-LAST``) names and not of ``taken``.

    Programs that start several sandboxes at once give each a range of its own: between the choice of a port and the
    start of its server, another one could choose it too.
    """
    first, last = PORTS
    if given := os.environ.get("SANDBOX_PORTS"):
        first, last = (int(number) for number in given.split("-"))
    candidates = (port for port in iter(lambda: first + secrets.randbelow(last - first), None) if port not in taken)
    return next(port for port in candidates if port_is_free(port))


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
