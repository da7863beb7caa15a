"""A fabric ``Connection`` to the cluster, for code that uses `SlurmClient` as one (``client.run``, ``client.put``).

Making it reads the SSH configuration, in which ``Match exec`` runs programs and ``CanonicalizeHostname`` queries name
servers; therefore it is made at its first use. fabric accepts any host key; here a host must be in the known_hosts
files that the configuration names, as for ``ssh``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import BadHostKeyException, MissingHostKeyPolicy, PKey, SSHClient
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from biomeroworker.config import Settings
from biomeroworker.errors import Blocked, ConfigError, Fault

#: The files that ssh reads if the configuration names none (ssh_config(5)).
_FILES = {
    "userknownhostsfile": "~/.ssh/known_hosts ~/.ssh/known_hosts2",
    "globalknownhostsfile": "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
}
_TIMEOUT_SECONDS = 15.0


def connection(settings: Settings, learn_host_key: Callable[[], object], **options: Any) -> HostCheckedConnection:
    """Make a connection to the host of ``[SSH]``; it is opened at its first command.

    Parameters
    ----------
    learn_host_key
        Called if the host is unknown and the SSH configuration accepts new host keys: connects with ``ssh``, which
        records the key.
    options
        Arguments of ``Connection``: ``host``, ``user``, ``port``, ``gateway`` and so on.

    Raises
    ------
    ConfigError
        The SSH configuration cannot be read.
    """
    ssh = settings.default_cluster.ssh
    try:
        config = Config(runtime_ssh_path=str(ssh.config_file)) if ssh.config_file else None
        arguments = {"host": ssh.host, "config": config, "inline_ssh_env": ssh.inline_ssh_env, **options}
        made = HostCheckedConnection(**arguments)
    except Exception as error:  # of paramiko, a resolver, a file
        line = settings.default_cluster.line("SSH", "config_file" if ssh.config_file else "host")
        raise ConfigError(f"{line}: the SSH configuration cannot be used: {error}") from error
    made._set(learn_host_key=learn_host_key)  # fabric guards ordinary assignment
    return made


class HostCheckedConnection(Connection):  # type: ignore[misc]  # fabric has no types
    """A connection that opens to known hosts only."""

    learn_host_key: Callable[[], object]

    def open(self) -> Any:
        """Connect, if the host shows a key that is known for it."""
        if self.is_connected:
            return None
        try:
            self._load_host_keys()
            return super().open()
        except BadHostKeyException as error:
            self.client.close()
            raise _unknown_key(error.hostname, error.key, "the host key changed: ") from error
        except Fault:
            self.client.close()
            raise

    def _load_host_keys(self) -> None:
        """Give paramiko the keys of the host and of its jump hosts."""
        hop: Any = self
        while isinstance(hop, Connection):
            known = list(_keys(hop.ssh_config, hop.host, hop.port))
            if not known and hop.ssh_config.get("stricthostkeychecking") == "accept-new":
                self.learn_host_key()
                known = list(_keys(hop.ssh_config, hop.host, hop.port))
            hop.client.set_missing_host_key_policy(_Refuse())
            for key in known:
                hop.client.get_host_keys().add(_name(hop.host, hop.port), key.get_name(), key)
            hop = hop.gateway


class _Refuse(MissingHostKeyPolicy):
    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        raise _unknown_key(hostname, key)


def _unknown_key(host: str, key: PKey, what: str = "") -> Blocked:
    return Blocked(
        f"{what}{host} shows a {key.get_name()} key that is in no known_hosts file: {key.fingerprint}",
        hint="compare the fingerprint with what the site publishes, then add the key (see `biomeroworker doctor`)",
    )


def _name(host: str, port: int) -> str:
    """The name of a host in known_hosts files (sshd(8)) and in paramiko."""
    return host if int(port) == 22 else f"[{host}]:{port}"


def _keys(config: Mapping[str, str], host: str, port: int) -> Iterator[PKey]:
    """The known keys of a host; ``ssh-keygen`` handles hashed names, patterns and exceptions."""
    name = config.get("hostkeyalias") or _name(host, port)
    found: dict[str, PKey] = {}
    revoked: set[str] = set()
    for option, usual in _FILES.items():
        for word in config.get(option, usual).replace('"', "").split():
            file = Path(word).expanduser()
            if not file.is_file():
                continue
            command = ["ssh-keygen", "-F", name, "-f", str(file)]
            completed = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
            for line in completed.stdout.splitlines():
                marker, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
                entry = None if line.startswith("#") else _entry(rest)
                if entry is None or marker not in ("", "@revoked"):
                    continue  # paramiko does not support certificate authorities for hosts
                if marker:
                    revoked.add(entry.fingerprint)
                else:
                    found[entry.fingerprint] = entry
    return (key for fingerprint, key in found.items() if fingerprint not in revoked)


def _entry(line: str) -> PKey | None:
    try:
        entry = HostKeyEntry.from_line(line)
    except InvalidHostKey:
        return None
    return None if entry is None else entry.key
