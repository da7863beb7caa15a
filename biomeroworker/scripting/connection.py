"""The cluster as a fabric ``Connection``, for code that uses the client as one (``client.run``, ``client.put``).

It is made when it is first used as one. To make it, the SSH configuration is read, in which ``Match exec`` runs
programs and ``CanonicalizeHostname`` asks name servers: a dialog, or a look at the log, waits for neither. fabric would
take any host key; here a host must be in the known_hosts files that the configuration names, as it must for ``ssh``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fabric import Config, Connection
from paramiko import BadHostKeyException, MissingHostKeyPolicy, PKey, SSHClient
from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

from biomeroworker.config import Settings
from biomeroworker.errors import Blocked, ConfigError, Fault

#: Where ssh looks when the configuration names no files (ssh_config(5)).
_FILES = {
    "userknownhostsfile": "~/.ssh/known_hosts ~/.ssh/known_hosts2",
    "globalknownhostsfile": "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
}
_SECONDS = 15.0
#: What a connection has once it is made; its class has None under these names.
_ITS_OWN = frozenset(name for name, value in vars(Connection).items() if value is None and not name.startswith("__"))


class ClusterConnection(Connection):  # type: ignore[misc]  # fabric has no types
    """A connection to the host of ``[SSH]``, made and opened when it is needed."""

    settings: Settings

    def __getattribute__(self, name: str) -> Any:
        """Who asks for something of fabric's part gets it made."""
        if name in _ITS_OWN and "_config" not in object.__getattribute__(self, "__dict__"):
            self._become_connection()
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        """The same for what its class does not name; afterwards fabric's own answer."""
        if "_config" not in self.__dict__:
            if name.startswith("__"):
                raise AttributeError(name)
            self._become_connection()
            return getattr(self, name)
        return super().__getattr__(name)

    def __repr__(self) -> str:
        if "_config" in self.__dict__:
            return str(super().__repr__())
        return f"<{type(self).__name__} {self.settings.main.ssh.host!r}, not connected>"

    def _become_connection(self) -> None:
        ssh = self.settings.main.ssh
        own = set(self.__dict__)
        try:
            config = Config(runtime_ssh_path=str(ssh.config_file)) if ssh.config_file else None
            Connection.__init__(self, ssh.host, config=config, inline_ssh_env=ssh.inline_ssh_env)
        except Exception as error:  # paramiko's, a resolver's, a file's
            for name in set(self.__dict__) - own:
                del self.__dict__[name]
            line = self.settings.main.line("SSH", "config_file" if ssh.config_file else "host")
            raise ConfigError(f"{line}: the SSH configuration cannot be used: {error}") from error

    def open(self) -> Any:
        """Connect, to a host that is known only."""
        if self.is_connected:
            return None
        try:
            self._know_hosts()
            return super().open()
        except BadHostKeyException as error:
            self.client.close()
            raise _unknown(error.hostname, error.key, "the host key changed: ") from error
        except Fault:
            self.client.close()
            raise

    def _know_hosts(self) -> None:
        """Tell paramiko the keys of the host and of those on the way."""
        hop: Any = self
        while isinstance(hop, Connection):
            known = list(_keys(hop.ssh_config, hop.host, hop.port))
            if not known and hop.ssh_config.get("stricthostkeychecking") == "accept-new":
                self.cluster.check()  # takes the key, and keeps it
                known = list(_keys(hop.ssh_config, hop.host, hop.port))
            hop.client.set_missing_host_key_policy(_Refuse())
            for key in known:
                hop.client.get_host_keys().add(_name(hop.host, hop.port), key.get_name(), key)
            hop = hop.gateway

    def close(self) -> None:
        """End the connection, if there is one."""
        if "_config" in self.__dict__:
            super().close()


class _Refuse(MissingHostKeyPolicy):
    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        raise _unknown(hostname, key)


def _unknown(host: str, key: PKey, what: str = "") -> Blocked:
    return Blocked(
        f"{what}{host} shows a {key.get_name()} key that is in no known_hosts file: {key.fingerprint}",
        hint="compare the fingerprint with what the site publishes, then add the key (`biomeroworker doctor` says how)",
    )


def _name(host: str, port: int) -> str:
    """How a host is called in known_hosts files (sshd(8)), and by paramiko."""
    return host if int(port) == 22 else f"[{host}]:{port}"


def _keys(config: Mapping[str, str], host: str, port: int) -> Iterator[PKey]:
    """The keys by which a host is known; ``ssh-keygen`` knows hashed names, patterns and exceptions."""
    sought = config.get("hostkeyalias") or _name(host, port)
    found: dict[str, PKey] = {}
    revoked: set[str] = set()
    for option, usual in _FILES.items():
        for word in config.get(option, usual).replace('"', "").split():
            file = Path(word).expanduser()
            if not file.is_file():
                continue
            command = ["ssh-keygen", "-F", sought, "-f", str(file)]
            said = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            for line in said.stdout.splitlines():
                marker, _, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
                entry = None if line.startswith("#") else _entry(rest)
                if entry is None or marker not in ("", "@revoked"):
                    continue  # whom an authority vouches for, paramiko cannot tell
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
