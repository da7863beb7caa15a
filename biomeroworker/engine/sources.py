"""The sources that a worker serves, by the name that a request gives them.

The one place where the engine's process meets OMERO's client library, and only when a run comes from OMERO: everything
else installs and runs without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from biomeroworker.engine.folder import FolderSource
from biomeroworker.errors import Refused
from biomeroworker.source import Source


class Sources(Mapping[str, Source]):
    """``folder`` always; ``omero`` where omero-py is installed."""

    def __init__(self) -> None:
        self._made: dict[str, Source] = {"folder": FolderSource()}

    def __getitem__(self, name: str) -> Source:
        if name == "omero" and name not in self._made:
            self._made[name] = _omero()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("folder", "omero"))

    def __len__(self) -> int:
        return 2


def _omero() -> Source:
    try:
        from biomeroworker.omero.credentials import provider_from_environment
        from biomeroworker.omero.source import OmeroSource
    except ModuleNotFoundError as error:
        raise Refused(
            f"this worker cannot talk to OMERO: {error.name} is missing; pip install biomeroworker[omero]"
        ) from error
    source: Source = OmeroSource(provider_from_environment())
    return source
