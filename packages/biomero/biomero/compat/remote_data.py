"""Helpers of the other modules: paths below the data folder, commands on the cluster, results as fabric shows them."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import fabric.transfer
from invoke import Result

from biomeroworker.cluster import paths
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import RequestRejected


def result(answer: Completed) -> Result:
    """The result of a remote command as fabric gives it: ``ok``, ``stdout``, ``stderr``, ``exited``."""
    return Result(
        stdout=answer.stdout, stderr=answer.stderr, exited=answer.returncode, command=" ".join(answer.argv[:1])
    )


def transferred(local: str, remote: str) -> fabric.transfer.Result:
    """A transfer as fabric reports it. No fabric connection took part in it."""
    return fabric.transfer.Result(orig_local=local, local=local, orig_remote=remote, remote=remote, connection=None)


def data_folder(cluster: Cluster, name: str) -> str:
    """The absolute path of a folder below the data folder, given by name or path.

    Raises
    ------
    Refused
        The path leads elsewhere. Only files below the data folder are removed or written to.
    """
    data = cluster.remote_paths.data
    path = posixpath.normpath(posixpath.join(data, paths.expand_home(name, cluster.home) if name[:1] in "~$" else name))
    if not path.startswith(f"{data}/") or "\0" in name:
        raise RequestRejected(f"{name!r} is not below the data folder {data}")
    return path


def run_checked(cluster: Cluster, argv: Sequence[str], what: str, *, timeout: float = 60, stdin: bytes = b"") -> Result:
    """Run a command that must succeed; raises `RequestRejected` with the last line of its output."""
    answer = cluster.transport.run(argv, timeout=timeout, stdin=stdin)
    if not answer.ok:
        lines = (answer.stderr or answer.stdout).strip().splitlines()
        raise RequestRejected(f"{what}: {lines[-1] if lines else f'exit code {answer.returncode}'}")
    return result(answer)
