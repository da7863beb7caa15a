"""The workflows of this deployment: those of the configuration, with their descriptors.

A workflow with an invalid descriptor is disabled with a message; the others are not affected.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator

from biomeroworker.cluster.containers.runtime import Reference
from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError, RequestRejected
from biomeroworker.workflows import refresh
from biomeroworker.workflows.descriptor import Workflow
from biomeroworker.workflows.store import Network

#: After this time a descriptor is read again, so that an edited one takes effect soon.
_RELOAD_SECONDS = 60.0


class Catalogue:
    """Descriptors by the names of workflows in the configuration, read at their first use.

    Parameters
    ----------
    network
        Whether descriptors may be fetched from the web: never for a dialog, which must open immediately.
    """

    def __init__(self, settings: Settings, network: Network = Network.IF_STALE) -> None:
        self._settings, self._network = settings, network
        self._store = refresh.store_of(settings)
        self._loaded: dict[str, tuple[float, Workflow]] = {}
        self.problems: dict[str, str] = {}

    def names(self) -> list[str]:
        """All configured workflows, in the order of the configuration."""
        return list(self._settings.workflows)

    def get(self, name: str) -> Workflow:
        """The workflow of that name; raises `RequestRejected` if it is unknown, or disabled by a bad descriptor."""
        if name not in self._settings.workflows:
            raise RequestRejected(f"there is no workflow {name!r}; {self._suggest(name)}")
        when, workflow = self._loaded.get(name, (0.0, None))
        if workflow is None or time.monotonic() - when > _RELOAD_SECONDS:
            location = self._settings.workflows[name].repo
            try:
                if not location:
                    raise ConfigError(f"[WORKFLOWS] {name}_repo is not set")
                workflow = self._store.load(location, self._network)
                _check_image(workflow)
            except ConfigError as error:
                self.problems[name] = str(error)
                raise RequestRejected(f"workflow {name!r} is disabled: {error}") from error
            self._loaded[name] = time.monotonic(), workflow
            self.problems.pop(name, None)
        return workflow

    def versions(self, name: str) -> list[str]:
        """The cached versions on the cluster, newest first; needs no network."""
        return refresh.versions_of(self._settings).get(name, [])

    def usable(self) -> Iterator[tuple[str, Workflow]]:
        """The workflows that can run; the errors of the others are in `problems`."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except RequestRejected:
                continue

    def _suggest(self, name: str) -> str:
        known = self.names()
        close = difflib.get_close_matches(name, known, n=1)
        if close:
            return f"did you mean {close[0]!r}?"
        return f"this deployment has: {', '.join(known)}" if known else "the configuration names none ([WORKFLOWS])"


def _check_image(workflow: Workflow) -> None:
    """Refuse an invalid image name here, because it would break queries for the images of all workflows."""
    try:
        Reference.parse(workflow.container_image)
    except ConfigError as error:
        raise ConfigError(f"{workflow.origin}: container image: {error}") from error
