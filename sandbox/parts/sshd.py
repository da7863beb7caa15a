"""The login node of the cluster: OpenSSH on 127.0.0.1, one account, login with a key, a fixed host key."""

from __future__ import annotations

from pathlib import Path

from sandbox.part import Part
from sandbox.parts.account import cluster_user
from sandbox.root import Root

#: The `Host` in the configuration of clients.
ALIAS = "hpc"


def ssh_config(root: Root) -> Path:
    """The configuration file for ``ssh -F``."""
    return root.path / "client/ssh_config"


class Sshd(Part):
    """The server; ``client/`` has configuration, key and known_hosts for clients."""

    name = "sshd"
    needs = ("account",)
    programs = ("/usr/sbin/sshd", "ssh", "ssh-keygen")

    def prepare(self) -> None:
        """Create the keys of host and client once; write the configurations of server and client."""
        etc, client = self.root.folder("etc"), self.root.folder("client", 0o700)
        host_key, client_key = etc / "ssh_host_ed25519_key", client / "id_ed25519"
        for key, comment in ((host_key, "sandbox host"), (client_key, "sandbox client")):
            if not key.exists():
                self.must_run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
        keys = self.root.folder("etc/authorized_keys") / cluster_user(self.root)
        keys.write_text(client_key.with_suffix(".pub").read_text())
        public = host_key.with_suffix(".pub").read_text().split()[:2]
        (client / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(public)}\n")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd requires this folder
        values = {"root": self.root.path, "port": self.port, "user": cluster_user(self.root), "alias": ALIAS}
        self.write("sshd_config", etc / "sshd_config", values)
        self.write("ssh_config", ssh_config(self.root), values)

    def command(self) -> list[str]:
        """The argv; the log goes to stderr."""
        return ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.root.path / "etc/sshd_config")]

    def probe(self) -> str:
        """Log in with the key and run a command."""
        self.run_client(["ssh", "-F", str(ssh_config(self.root)), ALIAS, "true"])
        return f"ssh {ALIAS} true"
