"""Where things lie on the cluster, and what attempts are called. Pure.

::

    <data>/biomero_<run>/                   one run: sent as one tree, with its inputs and its first attempt
        inputs.json  in/                    what it runs on
        attempt-<n>/                        one per attempt; attempts never share outputs
    <images>/<workflow path>/<name>_<version>.sif
    <converters>/convert_<key>_<version>.sif

An attempt's name (``biomero-<run>-<n>``) is its SLURM job name: the key by which a job is found again after any doubt.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from uuid import UUID

from biomeroworker.domain.cluster_paths import home_problem, strip_home
from biomeroworker.errors import ConfigError

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


def expand_home(path: str, home: str) -> str:
    """A configured path as an absolute one: relative to the cluster user's home, which ``~`` and ``$HOME`` name too.

    No other variable is known here, because no shell ever sees the path.
    """
    if problem := home_problem(path):
        raise ConfigError(f"{path!r}: {problem}")
    return posixpath.normpath(posixpath.join(home, strip_home(path)))


@dataclass(frozen=True)
class RemotePaths:
    """The cluster's folders, all absolute."""

    data: str
    images: str
    converters: str

    def run_folder(self, run: UUID | str) -> str:
        """A run's folder."""
        return f"{self.data}/biomero_{UUID(str(run))}"

    def attempt_folder(self, run: UUID | str, number: int) -> str:
        """An attempt's folder below its run's."""
        if number < 1:
            raise ValueError("attempts count from 1")
        return f"{self.run_folder(run)}/attempt-{number}"

    def images_of(self, workflow_path: str) -> str:
        """The folder of a workflow's images: ``workflow_path`` is the ini's ``<workflow>=`` value."""
        parts = workflow_path.strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ConfigError(f"[WORKFLOWS] {workflow_path!r} is not a folder below slurm_images_path")
        return f"{self.images}/{'/'.join(parts)}"
