"""The cluster's login node: OpenSSH on loopback, one account, keys only, a pinned host key."""

from __future__ import annotations

from pathlib import Path

from sandbox.part import Part
from sandbox.parts.account import cluster_user
from sandbox.root import Root

#: The name under which the client configuration knows the cluster.
ALIAS = "hpc"


def ssh_config(root: Root) -> Path:
    """What a client passes with ``ssh -F``."""
    return root.path / "client/ssh_config"


class Sshd(Part):
    """The server, and a configuration, key and known_hosts for its clients under ``client/``."""

    name = "sshd"
    needs = ("account",)
    programs = ("/usr/sbin/sshd", "ssh", "ssh-keygen")

    def prepare(self) -> None:
        """Make host key and client key once; write both sides' configuration."""
        etc, client = self.root.folder("etc"), self.root.folder("client", 0o700)
        host_key, client_key = etc / "ssh_host_ed25519_key", client / "id_ed25519"
        for key, comment in ((host_key, "sandbox host"), (client_key, "sandbox client")):
            if not key.exists():
                self.insist(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
        keys = self.root.folder("etc/authorized_keys") / cluster_user(self.root)
        keys.write_text(client_key.with_suffix(".pub").read_text())
        public = host_key.with_suffix(".pub").read_text().split()[:2]
        (client / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on this very folder
        values = {"root": self.root.path, "port": self.port, "user": cluster_user(self.root), "alias": ALIAS}
        self.write("sshd_config", etc / "sshd_config", values)
        self.write("ssh_config", ssh_config(self.root), values)

    def command(self) -> list[str]:
        """In the foreground, logging to stderr."""
        return ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.root.path / "etc/sshd_config")]

    def probe(self) -> str:
        """Log in with the key and run something."""
        self.ask(["ssh", "-F", str(ssh_config(self.root)), ALIAS, "true"])
        return f"ssh {ALIAS} true"
