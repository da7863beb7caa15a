"""A login node for benchmarks: a real sshd that records its commands, and a relay that counts bytes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.relay import delayed
from tests.integration.cluster.own_sshd import OwnSshd

#: Records the command, then runs it with our programs first in PATH.
_FORCED = """#!/bin/bash
echo "$(date +%s.%N) ${{SSH_ORIGINAL_COMMAND//$'\\n'/ }}" >>{root}/commands
cd {home} && export HOME={home} PATH={root}/bin:$PATH && exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


class FrontEnd(OwnSshd):
    """One login node. Programs in ``bin`` are first in the PATH of its users."""

    def __init__(self, home: Path | None = None) -> None:
        super().__init__()
        self.home = home or self.home
        self.bin = self.root / "bin"
        self.bin.mkdir()
        (self.root / "forced").write_text(_FORCED.format(root=self.root, home=self.home))
        with (self.root / "sshd_config").open("a") as config:
            config.write("Subsystem sftp /usr/lib/openssh/sftp-server\nMaxStartups 200\n")
        self.stop()
        self.start()

    def commands(self) -> list[tuple[float, str]]:
        """All commands with the time of each, in seconds since the epoch."""
        file = self.root / "commands"
        if not file.exists():
            return []
        pairs = (line.partition(" ") for line in file.read_text(errors="replace").splitlines())
        return [(float(when), command) for when, _, command in pairs if when]

    @contextmanager
    def with_delay(self, seconds: float) -> Iterator[Path]:
        """An SSH configuration with this latency in each direction."""
        with delayed(self.port, seconds) as passed:
            port = passed.port
            known = self.root / f"known_hosts-{port}"
            key = (self.root / "host_key.pub").read_text().split()
            known.write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
            config = self.root / f"ssh_config-{port}"
            config.write_text(
                f"Host {self.alias}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {self.root}/id\n"
                f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n"
            )
            yield config


@contextmanager
def master(config: Path, alias: str, socket: Path, *options: str) -> Iterator[list[str]]:
    """Open a master connection; yields the options with which `ssh`, `sftp` and `rsync` use it."""
    words = ["-F", str(config), "-o", f"ControlPath={socket}"]
    given = [word for option in options for word in ("-o", option)]
    subprocess.run(["ssh", *words, *given, "-o", "ControlMaster=yes", "-fN", alias], check=True, timeout=60)
    try:
        yield words
    finally:
        subprocess.run(["ssh", *words, "-O", "exit", alias], capture_output=True, timeout=20)
        end = time.monotonic() + 5
        while socket.exists() and time.monotonic() < end:
            time.sleep(0.02)


def master_pid(words: list[str], alias: str) -> int:
    """The process id of a master connection."""
    done = subprocess.run(["ssh", *words, "-O", "check", alias], capture_output=True, text=True, timeout=20)
    return int(done.stderr.partition("pid=")[2].partition(")")[0])
