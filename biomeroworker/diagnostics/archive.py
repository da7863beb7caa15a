"""The archive: a tar.gz of text files in a fixed order. Only its owner can read it, and it is never incomplete."""

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
    """An archive at ``target``; its files are below ``folder``.

    The partial file is created immediately, so that a folder without write access is reported before data is collected.
    The end of the ``with`` block removes it unless it was saved.
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
                f"{target.parent} is not writable ({error.strerror}); choose another folder with --output"
            ) from None
        self._file = os.fdopen(handle, "wb")  # mkstemp creates it with mode 600
        self._partial = Path(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def save(self, files: list[tuple[str, str]], redact: Callable[[str], str], when: float) -> None:
        """Write the files, given as (path, text), redacted, and rename the archive to its final name."""
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
    """A relative path without ``..`` and without unusual characters."""
    parts = [_UNSAFE.sub("_", part).lstrip(".") for part in path.split("/")]
    return "/".join(part[:100] for part in parts if part) or "unnamed"
