"""The unprivileged account that owns the jobs: made for this sandbox, never anybody's own."""

from __future__ import annotations

import pwd
import signal
from pathlib import Path

from sandbox.errors import PartError, Unhealthy
from sandbox.part import Provision
from sandbox.processes import owned_by
from sandbox.root import Root


def cluster_user(root: Root) -> str:
    """The account's name."""
    return f"hpc-{root.tag}"


def cluster_home(root: Root) -> Path:
    """Its home, below the root."""
    return root.path / "home"


class Account(Provision):
    """A Unix account per sandbox. `down` keeps it with its files, `down --purge` removes it."""

    name = "account"
    programs = ("useradd", "userdel")
    patience = 5.0

    def _entry(self) -> pwd.struct_passwd | None:
        try:
            entry = pwd.getpwnam(cluster_user(self.root))
        except KeyError:
            return None
        if entry.pw_dir != str(cluster_home(self.root)):
            raise PartError(self.name, f"{entry.pw_name} exists and is not this sandbox's (its home is {entry.pw_dir})")
        return entry

    def make(self) -> None:
        """Add the account. ``-p '*'`` because sshd without PAM refuses a locked ('!') account even with a key."""
        home, name = cluster_home(self.root), cluster_user(self.root)
        if self._entry() is None:
            comment = f"sandbox of biomeroworker in {self.root.path}"
            options = ["--user-group", "--no-create-home", "--shell", "/bin/bash", "--password", "*"]
            self.insist(["useradd", *options, "--home-dir", str(home), "--comment", comment, name])
        self.root.folder("home", 0o700, name)

    def probe(self) -> str:
        """The account and its home are there."""
        if (entry := self._entry()) is None:
            raise Unhealthy("no such account")
        if not cluster_home(self.root).is_dir():
            raise Unhealthy("its home is missing")
        return f"{entry.pw_name}, uid {entry.pw_uid}"

    def take_back(self) -> bool:
        """End what the account still runs (jobs that detached themselves, sessions)."""
        left = owned_by(entry.pw_uid) if (entry := self._entry()) else []
        for process in left:
            process.stop(0.5, signal.SIGTERM)
        return bool(left)

    def purge(self) -> None:
        """Remove the account; its home goes with the root."""
        if not self._entry():
            return
        try:  # userdel counts zombies as users of the account, and some machines reap them seldom
            self.wait(lambda: self.ask(["userdel", cluster_user(self.root)]))
        except PartError:
            self.insist(["userdel", "--force", cluster_user(self.root)])
