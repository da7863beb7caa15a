"""The root folder of a sandbox and its state: tag, ports and passwords."""

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

#: Below the range that the kernel uses for outgoing connections, so that a chosen port remains free.
PORT_RANGE = (20000, 30000)

#: The root contains Unix sockets, whose paths may have 107 bytes.
MAX_ROOT_BYTES = 70


def default_root() -> Path:
    """``$SANDBOX_ROOT``, otherwise a folder below the state home of the user, or below ``/var/lib``.

    ``/var/lib`` is used if other accounts cannot access the home folder, because the daemons have their own accounts.
    """
    if given := os.environ.get("SANDBOX_ROOT"):
        return Path(given)
    state_home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    wanted = state_home / "biomeroworker/sandbox"
    return wanted if _closed_ancestor(wanted) is None else Path("/var/lib/biomeroworker/sandbox")


def _closed_ancestor(path: Path) -> Path | None:
    """The first folder in a path that other accounts cannot access; None if there is none."""
    for folder in (path, *path.parents):
        if folder.exists() and not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


class Root:
    """The root folder of a sandbox."""

    def __init__(self, path: Path) -> None:
        self.path = path = path.absolute()
        if len(str(path)) > MAX_ROOT_BYTES:
            message = f"the path of the root is too long for Unix sockets (over {MAX_ROOT_BYTES} bytes): {path}"
            raise SandboxError(message)
        if set(str(path)) - set(string.ascii_letters + string.digits + "/._-"):
            raise SandboxError(f"the path of the root may contain only letters, digits and . _ -: {path}")
        if closed := _closed_ancestor(path):
            raise SandboxError(f"other accounts cannot access {closed}: choose a root outside of it")
        self._file = path / "state.json"
        self._state: dict[str, Any] = {}
        self.reload()

    @property
    def exists(self) -> bool:
        """Whether `up` was called for this root."""
        return self._file.exists()

    def reload(self) -> None:
        """Read the state."""
        if not self.exists:
            return
        try:
            self._state = json.loads(self._file.read_text())
        except PermissionError as closed:
            raise SandboxError(
                f"{self._file} contains passwords: only the account that started the sandbox can read it"
            ) from closed

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock it against other calls of `up` and `down`."""
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
        """Four letters that identify the root, for the names of its account and nodes."""
        digest = hashlib.sha256(str(self.path).encode()).digest()
        return "".join(string.ascii_lowercase[byte % 26] for byte in digest[:4])

    def folder(self, name: str, mode: int = 0o755, owner: str | None = None) -> Path:
        """A folder below the root, created with this mode and owner if it does not exist."""
        path = self.path / name
        if not path.is_dir():
            path.mkdir(parents=True)
            path.chmod(mode)
            if owner:
                shutil.chown(path, owner, owner)
        return path

    def log(self, part: str) -> Path:
        """The file with the output of a part."""
        return self.path / "log" / f"{part}.log"

    def pid_file(self, part: str) -> Path:
        """The file with the process of a part."""
        return self.path / "run" / f"{part}.pid"

    def secret(self, name: str) -> str:
        """A password of letters and digits, created at the first call."""
        if name not in self._state["secrets"]:
            self._state["secrets"][name] = secrets.token_hex(12)
            self._save()
        return str(self._state["secrets"][name])

    def port(self, name: str) -> int:
        """The port of a part, chosen at the first call and stored."""
        ports = self._state.get("ports", {})
        if name not in ports:
            taken = set(ports.values())
            ports[name] = free_port(taken)
            self._save()
        return int(ports[name])

    def known_port(self, name: str) -> int | None:
        """The port of a part; None if none was chosen yet."""
        port = self._state.get("ports", {}).get(name)
        return None if port is None else int(port)

    def requested_parts(self) -> list[str]:
        """All parts that were requested from `up`."""
        return list(self._state.get("parts", []))

    def remember_requested(self, names: Sequence[str]) -> None:
        """Store the requested parts."""
        if names != self.requested_parts():
            self._state["parts"] = list(names)
            self._save()

    def set_ports(self, given: Mapping[str, int]) -> None:
        """Store these ports."""
        self._state["ports"].update(given)
        self._save()


def free_port(taken: Collection[int] = ()) -> int:
    """A free port that is not in ``taken``, from the range ``$SANDBOX_PORTS`` (``FIRST-LAST``) if that is set.

    Use a different range for each of several simultaneous sandboxes. Otherwise two of them may choose the same port,
    because a port is used only when its server starts.
    """
    first, last = PORT_RANGE
    if given := os.environ.get("SANDBOX_PORTS"):
        first, last = (int(number) for number in given.split("-"))
    candidates = (port for port in iter(lambda: first + secrets.randbelow(last - first), None) if port not in taken)
    return next(port for port in candidates if port_is_free(port))


def port_is_free(port: int) -> bool:
    """Whether a server can use this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
