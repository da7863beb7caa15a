"""The unprivileged account for jobs, created for each sandbox."""

from __future__ import annotations

import pwd
import signal
from pathlib import Path

from sandbox.errors import PartError, Unhealthy
from sandbox.part import Provision
from sandbox.processes import owned_by
from sandbox.root import Root


def cluster_user(root: Root) -> str:
    """The name of the account."""
    return f"hpc-{root.tag}"


def cluster_home(root: Root) -> Path:
    """The home folder of the account, below the root."""
    return root.path / "home"


class Account(Provision):
    """A Unix account. `down` does not remove it or its files; `down --purge` does."""

    name = "account"
    programs = ("useradd", "userdel")
    timeout_seconds = 5.0

    def _entry(self) -> pwd.struct_passwd | None:
        try:
            entry = pwd.getpwnam(cluster_user(self.root))
        except KeyError:
            return None
        if entry.pw_dir != str(cluster_home(self.root)):
            raise PartError(
                self.name, f"{entry.pw_name} exists but belongs to another sandbox (home folder {entry.pw_dir})"
            )
        return entry

    def create(self) -> None:
        """Create the account. Its password is ``*``, because sshd without PAM rejects a locked (``!``) account."""
        home, name = cluster_home(self.root), cluster_user(self.root)
        if self._entry() is None:
            comment = f"sandbox of biomeroworker in {self.root.path}"
            options = ["--user-group", "--no-create-home", "--shell", "/bin/bash", "--password", "*"]
            self.must_run(["useradd", *options, "--home-dir", str(home), "--comment", comment, name])
        self.root.folder("home", 0o700, name)

    def probe(self) -> str:
        """The account and its home folder exist."""
        if (entry := self._entry()) is None:
            raise Unhealthy("no such account")
        if not cluster_home(self.root).is_dir():
            raise Unhealthy("its home folder does not exist")
        return f"{entry.pw_name}, uid {entry.pw_uid}"

    def undo(self) -> bool:
        """End all processes of the account: sessions, and jobs that detached themselves."""
        left = owned_by(entry.pw_uid) if (entry := self._entry()) else []
        for process in left:
            process.stop(0.5, signal.SIGTERM)
        return bool(left)

    def purge(self) -> None:
        """Remove the account. Its home folder is removed with the root."""
        if not self._entry():
            return
        try:  # userdel fails while the account has zombie processes
            self.wait(lambda: self.run_client(["userdel", cluster_user(self.root)]))
        except PartError:
            self.must_run(["userdel", "--force", cluster_user(self.root)])
