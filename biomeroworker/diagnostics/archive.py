"""The archive: a tar.gz of text files in a fixed order, readable for its owner alone, complete or not there."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from biomeroworker.errors import RequestRejected

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


class Archive:
    """Files are added in memory and written at `save`, redacted.

    The partial file is made at once, so that a folder that cannot be written to is known before anything is collected.
    It is removed at the end of the ``with`` block unless it was saved.
    """

    def __init__(self, target: Path, folder: str) -> None:
        self.target = target
        self._folder = folder
        if target.is_dir():
            raise RequestRejected(
                f"{target} is a folder: give the name of a file, such as {target / 'diagnostics.tar.gz'}"
            )
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        except OSError as error:
            raise RequestRejected(
                f"{target.parent} cannot be written to ({error.strerror}); choose another place with --output"
            ) from None
        self._file = os.fdopen(handle, "wb")  # mode 600: mkstemp makes it so
        self._partial = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def save(self, files: list[tuple[str, str]], redact: Callable[[str], str], when: float) -> None:
        """Write the files, given as (path, text), and give the archive its name."""
        with gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=int(when)) as packed:  # noqa: SIM117
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path, text in files:
                    content = redact(text).encode("utf-8", errors="replace")
                    member = tarfile.TarInfo(str(PurePosixPath(self._folder) / contained(redact(path))))
                    member.size, member.mtime, member.mode = len(content), int(when), 0o600
                    tar.addfile(member, io.BytesIO(content))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._partial.replace(self.target)


def contained(path: str) -> str:
    """A path below the folder that it is put into, of harmless letters."""
    parts = [_UNSAFE.sub("_", part).lstrip(".") for part in path.split("/")]
    return "/".join(part[:100] for part in parts if part) or "unnamed"
