"""The part of `SlurmClient` that is a fabric connection: one-line delegates to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import fabric.transfer
from invoke import Result

from biomero.compat.connection import HostCheckedConnection, connection
from biomeroworker.deployment.deployment import Deployment


class ClientConnection:
    """The methods of fabric's ``Connection``; it is made at the first use of one of them."""

    deployment: Deployment
    _fabric_options: Mapping[str, Any]

    @cached_property
    def _connection(self) -> HostCheckedConnection:
        return connection(self.deployment.settings, lambda: self.deployment.cluster.check(), **self._fabric_options)

    @property
    def host(self) -> str:
        """The host name of the front-end, as the SSH configuration resolves it."""
        return str(self._connection.host)

    @property
    def user(self) -> str:
        """The account on the front-end."""
        return str(self._connection.user)

    @property
    def port(self) -> int:
        """The front-end's SSH port."""
        return int(self._connection.port)

    @property
    def ssh_config(self) -> Mapping[str, Any]:
        """What the SSH configuration holds for the front-end."""
        return dict(self._connection.ssh_config)

    @property
    def connect_kwargs(self) -> Mapping[str, Any]:
        """Arguments for paramiko's ``SSHClient.connect``."""
        return dict(self._connection.connect_kwargs)

    @property
    def client(self) -> Any:
        """The paramiko ``SSHClient``."""
        return self._connection.client

    @property
    def transport(self) -> Any:
        """The paramiko ``Transport``; None while not connected."""
        return self._connection.transport

    @property
    def is_connected(self) -> bool:
        """Whether the fabric connection is open."""
        return "_connection" in self.__dict__ and bool(self._connection.is_connected)

    def open(self) -> Any:
        """Open the fabric connection."""
        return self._connection.open()

    def run(self, command: str, **kwargs: Any) -> Result:
        """Run a line of shell on the front-end; see fabric's ``Connection.run``."""
        return self._connection.run(command, **kwargs)

    def sudo(self, command: str, **kwargs: Any) -> Result:
        """Run a line of shell on the front-end with sudo."""
        return self._connection.sudo(command, **kwargs)

    def local(self, *args: Any, **kwargs: Any) -> Result:
        """Run a line of shell on this machine."""
        return self._connection.local(*args, **kwargs)

    def shell(self, **kwargs: Any) -> Any:
        """Start an interactive shell on the front-end."""
        return self._connection.shell(**kwargs)

    def put(self, *args: Any, **kwargs: Any) -> fabric.transfer.Result:
        """Upload a file."""
        return self._connection.put(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> fabric.transfer.Result:
        """Download a file."""
        return self._connection.get(*args, **kwargs)

    def sftp(self) -> Any:
        """The SFTP client of the connection."""
        return self._connection.sftp()

    def cd(self, path: str) -> Any:
        """Run the commands of a ``with`` block in a folder."""
        return self._connection.cd(path)

    def prefix(self, command: str) -> Any:
        """Run a line of shell before each command of a ``with`` block."""
        return self._connection.prefix(command)

    def forward_local(self, *args: Any, **kwargs: Any) -> Any:
        """Open a tunnel from a local port to the front-end for a ``with`` block."""
        return self._connection.forward_local(*args, **kwargs)

    def forward_remote(self, *args: Any, **kwargs: Any) -> Any:
        """Open a tunnel from a port of the front-end to this machine for a ``with`` block."""
        return self._connection.forward_remote(*args, **kwargs)

    def create_session(self) -> Any:
        """Open a session on the connection."""
        return self._connection.create_session()

    def run_commands(
        self,
        cmdlist: Sequence[str],
        env: Mapping[str, str] | None = None,
        sep: str = " && ",
        log_stdout: bool = True,
        **kwargs: Any,
    ) -> Result:
        """Run lines of shell, joined. The caller is responsible for their quoting. Nothing of it is logged."""
        kwargs.setdefault("in_stream", False)
        kwargs.setdefault("hide", True)
        return self.run(sep.join(cmdlist), env=dict(env or {}), **kwargs)

    def run_commands_split_out(self, cmdlist: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """Run lines of shell one by one; returns the output of each."""
        return [self.run_commands([line], env).stdout for line in cmdlist]
