"""The sources of runs by the name in a request.

A source and its packages are imported at its first use. So everything except runs from OMERO works without omero-py,
and commands that only show runs start fast.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from biomeroworker.domain.source import Source
from biomeroworker.errors import RequestRejected


class Sources(Mapping[str, Source]):
    """``folder``, and ``omero`` if omero-py is installed."""

    def __init__(self) -> None:
        self._made: dict[str, Source] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Source:
        with self._lock:
            if name not in self._made:
                self._made[name] = _SOURCES[name]()
            return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_SOURCES)

    def __len__(self) -> int:
        return len(_SOURCES)

    def __contains__(self, name: object) -> bool:
        return name in _SOURCES  # without making the source, which may need packages that are not installed


def _folder() -> Source:
    from biomeroworker.deployment.folder_source import FolderSource

    return FolderSource()


def _omero() -> Source:
    try:
        from biomeroworker.omero.connection.credentials import provider_from_environment
        from biomeroworker.omero.source import OmeroSource
    except ModuleNotFoundError as error:
        raise RequestRejected(
            f"runs from OMERO need the Python package {error.name}; install it with: pip install biomeroworker[omero]"
        ) from error
    source: Source = OmeroSource(provider_from_environment())
    return source


_SOURCES = {"folder": _folder, "omero": _omero}
