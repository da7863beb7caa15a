"""Debian's Charliecloud, checked with the account of the cluster."""

from __future__ import annotations

from sandbox.errors import Unhealthy
from sandbox.part import Provision
from sandbox.parts.account import cluster_home, cluster_user


class Charliecloud(Provision):
    """The second container runtime. Its images are mounted with /dev/fuse; `Apptainer` provides the access."""

    name = "charliecloud"
    needs = ("account", "apptainer")
    programs = ("ch-run", "ch-image", "mksquashfs", "fusermount3")

    def create(self) -> None:
        """Do nothing: the packages are the installation."""

    def probe(self) -> str:
        """The account can run ch-image, which needs Python."""
        home, user = cluster_home(self.root), cluster_user(self.root)
        environment = {"HOME": str(home), "USER": user, "PATH": "/usr/bin:/bin"}
        version = self.run_client(["/usr/bin/ch-image", "--version"], environment, user=user).strip()
        if not version:
            raise Unhealthy("ch-image --version printed nothing")
        return f"ch-image {version}"
