"""Where the bytes lie: one file per OriginalFile and per Pixels, in folders of a thousand as in OMERO's repository."""

from __future__ import annotations

from pathlib import Path


class Disk:
    """The data folder's ``Files/`` and ``Pixels/``."""

    def __init__(self, data: Path) -> None:
        self.data = data
        for name in ("Files", "Pixels", "Thumbnails"):
            (data / name).mkdir(parents=True, exist_ok=True)

    def file(self, number: int) -> Path:
        """The content of an OriginalFile."""
        return self._path("Files", number)

    def pixels(self, number: int) -> Path:
        """The planes of a Pixels, big-endian, in the order XYZCT."""
        return self._path("Pixels", number)

    def _path(self, kind: str, number: int) -> Path:
        folder = self.data / kind
        rest = number // 1000
        while rest > 0:
            folder /= f"Dir-{rest % 1000:03d}"
            rest //= 1000
        folder.mkdir(parents=True, exist_ok=True)
        return folder / str(number)
