"""Charliecloud of Debian, which is on everybody's PATH: found, and tried by the cluster's account."""

from __future__ import annotations

from sandbox.errors import Unhealthy
from sandbox.part import Provision
from sandbox.parts.account import cluster_home, cluster_user


class Charliecloud(Provision):
    """The second container runtime. Its images are mounted through /dev/fuse, which `Apptainer` holds open."""

    name = "charliecloud"
    needs = ("account", "apptainer")
    programs = ("ch-run", "ch-image", "mksquashfs", "fusermount3")

    def make(self) -> None:
        """Nothing: the packages are the installation."""

    def probe(self) -> str:
        """The account can run its Python part too."""
        home, user = cluster_home(self.root), cluster_user(self.root)
        environment = {"HOME": str(home), "USER": user, "PATH": "/usr/bin:/bin"}
        version = self.ask(["/usr/bin/ch-image", "--version"], environment, user=user).strip()
        if not version:
            raise Unhealthy("ch-image says no version")
        return f"ch-image {version}"
