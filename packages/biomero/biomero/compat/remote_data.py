"""Helpers of the other modules: paths below the data folder, commands on the cluster, results as fabric shows them."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

import fabric.transfer
from invoke import Result

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import RequestRejected

_PIECE_BYTES = 32 << 20


def result(answer: Completed) -> Result:
    """The result of a remote command as fabric gives it: ``ok``, ``stdout``, ``stderr``, ``exited``."""
    return Result(
        stdout=answer.stdout, stderr=answer.stderr, exited=answer.returncode, command=" ".join(answer.argv[:1])
    )


def transferred(local: str, remote: str) -> fabric.transfer.Result:
    """A transfer as fabric reports it. No fabric connection took part in it."""
    return fabric.transfer.Result(orig_local=local, local=local, orig_remote=remote, remote=remote, connection=None)


def from_home(cluster: Cluster, path: str) -> str:
    """A path on the cluster as an absolute one; a relative one starts at the home folder, which ``~`` names too."""
    if path[:1] in ("~", "$"):
        return cluster.remote_paths.absolute(path)
    return posixpath.normpath(posixpath.join(cluster.remote_paths.home, path))


def data_folder(cluster: Cluster, name: str) -> str:
    """The absolute path of a folder below the data folder.

    Parameters
    ----------
    name
        Its name in the data folder, its path from the home folder or its absolute path, with symbolic links resolved
        or not.

    Raises
    ------
    RequestRejected
        The path leads elsewhere. Only files below the data folder are removed or written to.
    """
    data = cluster.remote_paths.data
    if "\0" not in name and name.strip():
        path = from_home(cluster, name)
        if not _is_below(path, data) and name[0] not in "~$":
            path = posixpath.normpath(posixpath.join(data, name))
        if _is_below(path, data):
            return path
        real, real_data = _resolved(cluster, path, data)
        if _is_below(real, real_data):
            return data + real.removeprefix(real_data)
    raise RequestRejected(f"{name!r} is not below the data folder {data}")


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _resolved(cluster: Cluster, *paths_there: str) -> list[str]:
    """The same paths without symbolic links; what does not exist is taken as it is written."""
    answer = run_checked(cluster, ["readlink", "-m", "--", *paths_there], "resolving links")
    return str(answer.stdout).splitlines()


def run_checked(cluster: Cluster, argv: Sequence[str], what: str, *, timeout: float = 60, stdin: bytes = b"") -> Result:
    """Run a command that must succeed; raises `RequestRejected` with the last line of its output."""
    answer = cluster.transport.run(argv, timeout=timeout, stdin=stdin)
    if not answer.ok:
        lines = (answer.stderr or answer.stdout).strip().splitlines()
        raise RequestRejected(f"{what}: {lines[-1] if lines else f'exit code {answer.returncode}'}")
    return result(answer)


def copy_here(cluster: Cluster, remote: str, local: Path) -> None:
    """Copy one file of the cluster to this machine; FileNotFoundError if it does not exist."""
    path = from_home(cluster, remote)
    with local.open("wb") as stream:
        while piece := cluster.transport.read_from(path, stream.tell(), limit=_PIECE_BYTES, timeout=600):
            stream.write(piece)
