"""Cache what dialogs show without network access: descriptors from the web, and the versions on the clusters.

The supervisor refreshes both periodically. A dialog, a shell and a client read the cache, even if it is stale. If a
refresh fails, the cached content remains.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError
from biomeroworker.workflows.store import DescriptorStore, Network, is_address

if TYPE_CHECKING:  # dialogs read the cache, and need no cluster
    from biomeroworker.cluster.cluster import Cluster

logger = logging.getLogger(__name__)

#: Between two queries of the versions on a cluster, one remote execution each. ``biomeroworker init`` queries too.
VERSIONS_INTERVAL_SECONDS = 3600.0
#: Until the next refresh after a failure.
RETRY_SECONDS = 900.0


def store_of(settings: Settings) -> DescriptorStore:
    """The cache of descriptors on this machine."""
    return DescriptorStore(_folder(settings), fresh=settings.worker.descriptor_refresh_hours * 3600)


def _folder(settings: Settings) -> Path:
    return settings.worker.work_folder / "descriptors"


class Refresher:
    """Refreshes what is older than the settings allow; to be called periodically by one thread."""

    def __init__(self, settings: Settings, clusters: Mapping[str, Cluster]) -> None:
        self._settings, self._clusters = settings, clusters
        self._store = store_of(settings)
        self._logged: dict[str, str] = {}

    def refresh(self) -> float:
        """Refresh descriptors and versions; returns the seconds until the next call. A failure is logged once."""
        refreshed = [self._descriptor(name) for name in self._settings.workflows]
        refreshed += [self._versions(name) for name in self._clusters]
        return VERSIONS_INTERVAL_SECONDS if all(refreshed) else RETRY_SECONDS

    def versions(self) -> None:
        """Refresh only the versions on the clusters, after a change of the images."""
        for name in self._clusters:
            self._versions(name)

    def _descriptor(self, name: str) -> bool:
        location = self._settings.workflows[name].repo
        if not is_address(location):
            return True
        try:
            self._store.load(location, Network.IF_STALE)
        except ConfigError as error:
            self._log_once(f"workflow {name}", str(error))
            return False
        self._logged.pop(f"workflow {name}", None)
        return True

    def _versions(self, cluster: str) -> bool:
        paths = {name: one.path for name, one in self._settings.workflows_on(cluster).items()}
        if not paths:
            return True
        try:
            found = self._clusters[cluster].versions(list(paths.values()))
        except Exception as error:
            hint = getattr(error, "hint", "")
            self._log_once(f"versions on {cluster or 'the cluster'}", f"{error}: {hint}" if hint else str(error))
            return False
        self._logged.pop(f"versions on {cluster or 'the cluster'}", None)
        _write_versions(_folder(self._settings), {name: found.get(path, []) for name, path in paths.items()})
        return True

    def _log_once(self, what: str, why: str) -> None:
        if self._logged.get(what) != why:
            self._logged[what] = why
            logger.warning("%s: %s", what, why)


def versions_of(settings: Settings) -> dict[str, list[str]]:
    """The cached versions of each workflow on its cluster, newest first."""
    try:
        cached = json.loads((_folder(settings) / "versions.kept").read_text())
        return {str(name): [str(one) for one in found] for name, found in cached.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write_versions(folder: Path, found: Mapping[str, Sequence[str]]) -> None:
    """Write the cache atomically; an error is ignored."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "versions.kept"
        cached: dict[str, object] = {}
        with contextlib.suppress(OSError, ValueError):
            cached = json.loads(file.read_text())
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".part-")
        with os.fdopen(descriptor, "w") as stream:
            json.dump({**cached, **found}, stream)
        Path(name).replace(file)
