"""Keep what dialogs show without asking anybody: descriptors from the web, and which versions are on the clusters.

The supervisor refreshes both now and then; a dialog, a shell and a client read what is kept, however old it is. What
cannot be had now stays as it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError
from biomeroworker.workflows.store import DescriptorStore, Network, is_address

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is on the clusters; one remote execution each. ``biomeroworker init`` looks too.
VERSIONS_INTERVAL_SECONDS = 3600.0
#: Seconds until something that could not be had is asked for again.
RETRY_SECONDS = 900.0


def store_of(settings: Settings) -> DescriptorStore:
    """The descriptors that are kept on this machine."""
    return DescriptorStore(_folder(settings), fresh=settings.worker.descriptor_refresh_hours * 3600)


def _folder(settings: Settings) -> Path:
    return settings.worker.work_folder / "descriptors"


class Refresher:
    """Asks for what is older than the settings allow; to be called now and then by one thread."""

    def __init__(self, settings: Settings, clusters: Mapping[str, Cluster]) -> None:
        self._settings, self._clusters = settings, clusters
        self._store = store_of(settings)
        self._said: dict[str, str] = {}

    def refresh(self) -> float:
        """Descriptors, then versions; answers in how many seconds again. What goes wrong is logged once."""
        went_well = [self._descriptor(name) for name in self._settings.workflows]
        went_well += [self._versions(name) for name in self._clusters]
        return VERSIONS_INTERVAL_SECONDS if all(went_well) else RETRY_SECONDS

    def versions(self) -> None:
        """Only which versions are on the clusters: for who has just changed that."""
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
        self._said.pop(f"workflow {name}", None)
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
        self._said.pop(f"versions on {cluster or 'the cluster'}", None)
        _write_versions(_folder(self._settings), {name: found.get(path, []) for name, path in paths.items()})
        return True

    def _log_once(self, what: str, why: str) -> None:
        if self._said.get(what) != why:
            self._said[what] = why
            logger.warning("%s: %s", what, why)


def versions_of(settings: Settings) -> dict[str, list[str]]:
    """The versions of each workflow that were on its cluster when that was last looked at, newest first."""
    try:
        kept = json.loads((_folder(settings) / "versions.kept").read_text())
        return {str(name): [str(one) for one in found] for name, found in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write_versions(folder: Path, found: Mapping[str, Sequence[str]]) -> None:
    """Failing to keep it is no reason to fail; a half-written file is never seen."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "versions.kept"
        kept: dict[str, object] = {}
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(file.read_text())
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".part-")
        with os.fdopen(descriptor, "w") as stream:
            json.dump({**kept, **found}, stream)
        Path(name).replace(file)
