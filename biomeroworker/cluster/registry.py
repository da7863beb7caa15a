"""The clusters of a configuration by name; the one of ``[SSH]`` and ``[SLURM]`` has the name ``""``.

A cluster is made at its first use. So an unreachable or wrongly configured cluster affects only its own runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import Settings
from biomeroworker.errors import Blocked


class Clusters(Mapping[str, Cluster]):
    """Thread-safe; each cluster has one connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._made: dict[str, Cluster] = {}

    def __getitem__(self, name: str) -> Cluster:
        """The cluster of that name.

        Raises
        ------
        Blocked
            The configuration has no cluster of that name any more: its runs are paused.
        ConfigError
            A setting of the cluster is wrong.
        """
        if name not in self._settings.clusters:
            raise Blocked(
                f"the configuration has no cluster {name!r}",
                hint=f"restore the sections [SSH:{name}], [SLURM:{name}]",
            )
        with self._lock:
            if name not in self._made:
                self._made[name] = Cluster.from_settings(self._settings.clusters[name], self._settings.converters)
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.clusters)

    def __len__(self) -> int:
        return len(self._settings.clusters)

    def __contains__(self, name: object) -> bool:
        return name in self._settings.clusters

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self._lock:
            for cluster in self._made.values():
                cluster.close()
            self._made.clear()
