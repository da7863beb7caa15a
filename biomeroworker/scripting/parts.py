"""What the methods of this room need of the client that they are part of."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any, Protocol

import fabric.transfer
from invoke import Result

from biomeroworker.cluster import paths
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.registry import Clusters
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.config import Settings
from biomeroworker.errors import Refused
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.workflows.catalogue import Catalogue


class Parts(Protocol):
    """The client."""

    settings: Settings

    @property
    def log(self) -> RunLog: ...
    @property
    def cluster(self) -> Cluster: ...
    @property
    def clusters(self) -> Clusters: ...
    @property
    def catalogue(self) -> Catalogue: ...


def result(answer: Completed) -> Result:
    """A remote answer as fabric gives it: ``ok``, ``stdout``, ``stderr``, ``exited``."""
    return Result(
        stdout=answer.stdout, stderr=answer.stderr, exited=answer.returncode, command=" ".join(answer.argv[:1])
    )


def moved(local: str, remote: str, client: Any) -> fabric.transfer.Result:
    """A transfer as fabric tells of it."""
    return fabric.transfer.Result(orig_local=local, local=local, orig_remote=remote, remote=remote, connection=client)


def data_folder(cluster: Cluster, name: str) -> str:
    """The folder of that name below the data folder, absolute; a path must lead there as well.

    Raises
    ------
    Refused
        It would lead elsewhere: what is removed, or written to, is always below the data folder.
    """
    data = cluster.layout.data
    path = posixpath.normpath(posixpath.join(data, paths.resolved(name, cluster.home) if name[:1] in "~$" else name))
    if not path.startswith(f"{data}/") or "\0" in name:
        raise Refused(f"{name!r} is not below the data folder {data}")
    return path


def asked(cluster: Cluster, argv: Sequence[str], what: str, *, timeout: float = 60, stdin: bytes = b"") -> Result:
    """Run a command that must end well; raises `Refused` with its last words."""
    answer = cluster.transport.run(argv, timeout=timeout, stdin=stdin)
    if not answer.ok:
        said = (answer.stderr or answer.stdout).strip().splitlines()
        raise Refused(f"{what}: {said[-1] if said else f'ended with {answer.returncode}'}")
    return result(answer)
