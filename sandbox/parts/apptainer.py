"""Apptainer for the account of the cluster, with access to /dev/fuse."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from sandbox.errors import Unhealthy
from sandbox.part import Provision
from sandbox.parts.account import cluster_home, cluster_user

TOOL = Path(__file__).parents[2] / "tools/get_apptainer.py"
FUSE = Path("/dev/fuse")

#: Shared by all sandboxes of the machine: which of them need access to /dev/fuse, and its mode before the first.
SHARED = Path("/run/biomeroworker-sandbox")
FUSE_USERS = SHARED / "fuse-users"


class Apptainer(Provision):
    """The programs, installed below the root, on the PATH of the account."""

    name = "apptainer"
    needs = ("account",)
    programs = ("patchelf", "mksquashfs", "squashfuse")

    @property
    def _prefix(self) -> Path:
        return self.root.path / "apptainer"

    def create(self) -> None:
        """Install Apptainer once, and allow all users to access /dev/fuse."""
        if not (self._prefix / "usr/bin/apptainer").exists():
            self.must_run([sys.executable, str(TOOL), "--prefix", str(self._prefix)], os.environ, timeout=300)
        with _fuse_locked():
            (FUSE_USERS / self.root.tag).write_text(str(self.root.path))
            saved = SHARED / "fuse-mode"
            if not saved.exists() and FUSE.exists():
                saved.write_text(oct(stat.S_IMODE(FUSE.stat().st_mode)))
            if FUSE.exists():
                FUSE.chmod(0o666)

    def probe(self) -> str:
        """The account can run Apptainer and mount images."""
        if not (self._prefix / "usr/bin/apptainer").exists():
            raise Unhealthy("not installed")
        if FUSE.exists() and stat.S_IMODE(FUSE.stat().st_mode) & 0o006 != 0o006:
            raise Unhealthy(f"users cannot access {FUSE}")
        if not (FUSE_USERS / self.root.tag).exists():  # another sandbox allowed the access, and revokes it at its end
            raise Unhealthy(f"{FUSE} is not registered for this sandbox")
        home, user = cluster_home(self.root), cluster_user(self.root)
        version = [str(self._prefix / "usr/bin/apptainer"), "--version"]
        return self.run_client(version, {"HOME": str(home)}, user=user).strip()

    def undo(self) -> bool:
        """Restore the mode of /dev/fuse if no other sandbox needs the access."""
        if not SHARED.exists():
            return False
        with _fuse_locked():
            mine = FUSE_USERS / self.root.tag
            was_registered = mine.exists()
            mine.unlink(missing_ok=True)
            for other in FUSE_USERS.iterdir():  # the folder of that sandbox was deleted
                if not Path(other.read_text()).exists():
                    other.unlink()
            saved = SHARED / "fuse-mode"
            if not any(FUSE_USERS.iterdir()) and saved.exists():
                if FUSE.exists():
                    FUSE.chmod(int(saved.read_text(), 8))
                saved.unlink()
        return was_registered


@contextlib.contextmanager
def _fuse_locked() -> Iterator[None]:
    FUSE_USERS.mkdir(parents=True, exist_ok=True)
    with (SHARED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
