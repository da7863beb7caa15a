"""A real sshd on a free loopback port, for the account that runs the tests, with a folder in place of its home.

It can be frozen (connections remain open, but nothing answers), its connections can be cut, and it can get another
host key.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sandbox.root import free_port

SSHD = "/usr/sbin/sshd"


class OwnSshd:
    """An sshd whose files are in one short folder, which `close` removes."""

    def __init__(self, *, settings: str = "", shell: str = "/bin/sh", noise: str = "") -> None:
        """Start sshd.

        ``settings`` are further lines of its sshd_config, which have priority; ``shell`` is the account's login shell,
        and ``noise`` a command of its start-up file.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="sshd-", dir="/tmp")
        self.root = Path(self._folder.name)
        self.home = self.root / "home"
        self.home.mkdir()
        self.runtime = self.root / "rt"
        self.config = self.root / "ssh_config"
        self.port = free_port()
        self.alias = "cluster"
        self.relayed = 0  # connections that came through a relay of a test
        self._keygen("host_key")
        self._keygen("id")
        forced = self.root / "forced"
        login = f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"'
        forced.write_text(f"#!/bin/sh\ncd {self.home} && HOME={self.home}; export HOME\n{noise}\n{login}\n")
        forced.chmod(0o755)
        (self.root / "sshd_config").write_text(
            f"{settings}\nPort {self.port}\n"
            f"ListenAddress 127.0.0.1\nHostKey {self.root}/host_key\nPidFile {self.root}/pid\n"
            f"AuthorizedKeysFile {self.root}/id.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\nForceCommand {forced}\nMaxSessions 10\n"
        )
        self.config.write_text(
            f"Host {self.alias}\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {self.root}/id\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {self.root}/known_hosts\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.trust()
        self.start()

    def _keygen(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.root / name], check=True)

    def trust(self) -> None:
        """Write the current host key into known_hosts."""
        key = (self.root / "host_key.pub").read_text().split()
        (self.root / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")

    def change_host_key(self) -> None:
        """Use another host key, so that clients see another host."""
        self.stop()
        (self.root / "host_key.pub").unlink()
        self._keygen("host_key")
        self.start()

    def start(self) -> None:
        """Start, and wait until it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        arguments = [SSHD, "-D", "-f", str(self.root / "sshd_config"), "-E", str(self.root / "log")]
        self._process = subprocess.Popen(arguments)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError((self.root / "log").read_text())

    def _children(self) -> list[int]:
        """The processes that serve connections, without the listener."""
        assert self._process
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(stat.parent.name)] = int(fields[1])
        found, wave = [], {self._process.pid}
        while wave := {pid for pid, parent in parents.items() if parent in wave}:
            found += sorted(wave)
        return found

    def _signal(self, number: int, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop answering, without closing connections."""
        assert self._process
        self._signal(signal.SIGSTOP, [*self._children(), self._process.pid])

    def thaw(self) -> None:
        """Continue after `freeze`."""
        assert self._process
        self._signal(signal.SIGCONT, [*self._children(), self._process.pid])

    def cut(self) -> None:
        """Cut all connections; new ones are accepted."""
        self._signal(signal.SIGKILL, self._children())

    def stop(self) -> None:
        """Stop sshd and its connections."""
        if self._process:
            self.thaw()
            self.cut()
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        """Stop sshd and remove its folder."""
        self.stop()
        self._folder.cleanup()
