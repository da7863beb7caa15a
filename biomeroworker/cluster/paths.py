"""Paths on the cluster, and the names of attempts.

::

    <data>/biomero_<run>/                   one run: sent as one tree, with its inputs and its first attempt
        inputs.json  in/                    its input images
        files/p<n>/                         the files of its n-th file parameter
        attempt-<n>/                        one per attempt; attempts never share outputs
    <images>/<workflow path>/<name>_<version>.sif
    <converters>/convert_<key>_<version>.sif

An attempt's name (``biomero-<run>-<n>``) is its SLURM job name: the key that finds a job
whose id is not known.
"""

from __future__ import annotations

import posixpath
import re
import threading
from uuid import UUID

from biomeroworker.cluster.transport.errors import tail
from biomeroworker.cluster.transport.transport import Transport
from biomeroworker.domain.cluster_paths import home_problem, strip_home
from biomeroworker.errors import ConfigError, Transient

_ATTEMPT = re.compile(r"biomero-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9][0-9]*)")


def attempt_name(run: UUID | str, number: int) -> str:
    """The job name of a run's n-th attempt."""
    if number < 1:
        raise ValueError("attempts count from 1")
    return f"biomero-{UUID(str(run))}-{number}"


def parse_attempt_name(name: str) -> tuple[UUID, int] | None:
    """Run and number of an attempt's name; None for the name of any other job."""
    match = _ATTEMPT.fullmatch(name)
    return (UUID(match[1]), int(match[2])) if match else None


def run_folder(data: str, run: UUID | str) -> str:
    """A run's folder below the data folder."""
    return f"{data}/biomero_{UUID(str(run))}"


def attempt_folder(data: str, run: UUID | str, number: int) -> str:
    """The folder of a run's n-th attempt below the data folder."""
    if number < 1:
        raise ValueError("attempts count from 1")
    return f"{run_folder(data, run)}/attempt-{number}"


def image_folder(images: str, workflow_path: str) -> str:
    """The folder of a workflow's images: ``workflow_path`` is the ini's ``<workflow>=`` value."""
    parts = workflow_path.strip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"[WORKFLOWS] {workflow_path!r} is not a folder below slurm_images_path")
    return f"{images}/{'/'.join(parts)}"


def expand_home(path: str, home: str) -> str:
    """A configured path as an absolute one: relative to the cluster user's home, which ``~`` and ``$HOME`` name too.

    Other variables are refused, because no shell expands the path.
    """
    if problem := home_problem(path):
        raise ConfigError(f"{path!r}: {problem}")
    return posixpath.normpath(posixpath.join(home, strip_home(path)))


class RemotePaths:
    """The folders of one cluster, as configured and absolute; the only place that learns the account's home folder.

    Configured folders may be relative to the home folder, and every remote command starts there. So the home folder is
    looked up only where an absolute path is needed, in one remote execution, unless another answer has brought it.

    Parameters
    ----------
    data, images, converters
        Folders as the configuration names them (see `expand_home`).
    """

    def __init__(self, transport: Transport, *, data: str, images: str, converters: str) -> None:
        self._transport = transport
        self._configured_data, self._configured_images, self._configured_converters = data, images, converters
        self._home = ""
        self._lock = threading.Lock()

    @property
    def home(self) -> str:
        """The account's home folder."""
        with self._lock:
            if not self._home:
                self._home = self._query_home()
        return self._home

    def query_home(self) -> str:
        """Look up the home folder now; raises the fault if the cluster cannot be used."""
        home = self._query_home()
        self.learn_home(home)
        return home

    def learn_home(self, home: str) -> None:
        """Use the home folder that the answer to another command contained."""
        self._home = self._home or home

    def _query_home(self) -> str:
        answer = self._transport.run(["sh", "-c", "cd && pwd"], timeout=60)
        home = answer.stdout.strip()
        if not answer.ok or not home.startswith("/"):
            raise Transient("the home folder on the cluster could not be determined", detail=tail(answer.stderr))
        return home

    def absolute(self, path: str) -> str:
        """A configured path as an absolute one."""
        return expand_home(path, "" if path.startswith("/") else self.home)

    def _from_home(self, path: str) -> str:
        return expand_home(path, self._home or ".")

    @property
    def data(self) -> str:
        """Holds the folders of runs; absolute, like all that follow."""
        return self.absolute(self._configured_data)

    @property
    def images(self) -> str:
        """Holds workflow images."""
        return self.absolute(self._configured_images)

    @property
    def converters(self) -> str:
        """Holds the images of converters."""
        return self.absolute(self._configured_converters)

    @property
    def data_from_home(self) -> str:
        """The data folder for a command that starts in the home folder; never runs a command itself."""
        return self._from_home(self._configured_data)

    @property
    def images_from_home(self) -> str:
        """The same for workflow images."""
        return self._from_home(self._configured_images)

    @property
    def converters_from_home(self) -> str:
        """The same for converters."""
        return self._from_home(self._configured_converters)

    def run_folder(self, run: UUID | str) -> str:
        """A run's folder."""
        return run_folder(self.data, run)

    def attempt_folder(self, run: UUID | str, number: int) -> str:
        """An attempt's folder below its run's."""
        return attempt_folder(self.data, run, number)
