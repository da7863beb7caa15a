"""Apptainer, as a cluster's administrators would install it, with the machine's /dev/fuse opened for users."""

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

#: Shared by all sandboxes of the machine: who needs /dev/fuse open, and how it was before the first of them.
SHARED = Path("/run/biomeroworker-sandbox")
FUSE_USERS = SHARED / "fuse-users"


class Apptainer(Provision):
    """The programs under the root, on the PATH of the account."""

    name = "apptainer"
    needs = ("account",)
    programs = ("patchelf", "mksquashfs", "squashfuse")

    @property
    def _prefix(self) -> Path:
        return self.root.path / "apptainer"

    def make(self) -> None:
        """Install it once; open /dev/fuse."""
        if not (self._prefix / "usr/bin/apptainer").exists():
            self.insist([sys.executable, str(TOOL), "--prefix", str(self._prefix)], os.environ, timeout=300)
        with _fuse_locked():
            (FUSE_USERS / self.root.tag).write_text(str(self.root.path))
            kept = SHARED / "fuse-mode"
            if not kept.exists() and FUSE.exists():
                kept.write_text(oct(stat.S_IMODE(FUSE.stat().st_mode)))
            if FUSE.exists():
                FUSE.chmod(0o666)

    def probe(self) -> str:
        """The account can run it and can mount images."""
        if not (self._prefix / "usr/bin/apptainer").exists():
            raise Unhealthy("not installed")
        if FUSE.exists() and stat.S_IMODE(FUSE.stat().st_mode) & 0o006 != 0o006:
            raise Unhealthy(f"{FUSE} is closed to users")
        if not (FUSE_USERS / self.root.tag).exists():  # open for another sandbox, and closed when that one ends
            raise Unhealthy(f"{FUSE} is not held open")
        home, user = cluster_home(self.root), cluster_user(self.root)
        return self.ask([str(self._prefix / "usr/bin/apptainer"), "--version"], {"HOME": str(home)}, user=user).strip()

    def take_back(self) -> bool:
        """Restore /dev/fuse when the last sandbox of the machine lets go of it."""
        if not SHARED.exists():
            return False
        with _fuse_locked():
            mine = FUSE_USERS / self.root.tag
            held = mine.exists()
            mine.unlink(missing_ok=True)
            for other in FUSE_USERS.iterdir():  # of a sandbox whose folder was deleted
                if not Path(other.read_text()).exists():
                    other.unlink()
            kept = SHARED / "fuse-mode"
            if not any(FUSE_USERS.iterdir()) and kept.exists():
                if FUSE.exists():
                    FUSE.chmod(int(kept.read_text(), 8))
                kept.unlink()
        return held


@contextlib.contextmanager
def _fuse_locked() -> Iterator[None]:
    FUSE_USERS.mkdir(parents=True, exist_ok=True)
    with (SHARED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
