"""Which ini files are read, and whether one of them has changed since.

Two rules. By default the standard files are read, later ones over earlier ones. Where `BIOMERO_SLURM_CONFIG_FILE` is
set, that file alone takes their place, as with biomero. Below both are the packaged defaults; over both is the file of
`BIOMERO_CONFIG`, or of `--config`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Names the file that is read over the others.
EXTRA_VARIABLE = "BIOMERO_CONFIG"
#: Names the file that is read in place of the standard ones.
ALONE_VARIABLE = "BIOMERO_SLURM_CONFIG_FILE"


@dataclass(frozen=True)
class ConfigFiles:
    """The files of a configuration, later ones winning. ``required`` ones must exist, ``optional`` ones need not."""

    rule: str  #: which of them count, and why, as a sentence for people
    optional: tuple[Path, ...]
    required: tuple[Path, ...]

    @property
    def existing(self) -> tuple[Path, ...]:
        """The files to read."""
        return (*(file for file in self.optional if file.is_file()), *self.required)

    def stamp(self) -> tuple[object, ...]:
        """A value that differs when a file was written, replaced, added or removed. It costs one `stat` per file."""
        return tuple(map(_stamp, (*self.optional, *self.required)))

    def digest(self) -> str:
        """A hash of what the files say."""
        digest = hashlib.sha256()
        for file in (*self.optional, *self.required):
            try:
                content = file.read_bytes()
            except OSError:
                content = b""
            digest.update(f"{file}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


def config_files(
    environ: Mapping[str, str] = os.environ, named: Path | str | None = None, standard: Sequence[Path] | None = None
) -> ConfigFiles:
    """The files that count in an environment.

    Parameters
    ----------
    named
        The file of ``--config``; None: that of ``BIOMERO_CONFIG``, if it is set.
    standard
        The standard files, where others than `standard_files` are meant.
    """
    alone, extra = environ.get(ALONE_VARIABLE, "").strip(), named or environ.get(EXTRA_VARIABLE, "").strip()
    optional: tuple[Path, ...] = ()
    required: tuple[Path, ...] = ()
    if alone:
        rule = f"{ALONE_VARIABLE} is set: its file alone is read in place of the standard ones"
        required = (Path(alone).expanduser(),)
    else:
        rule = "the standard files are read, later ones over earlier ones"
        optional = tuple(standard_files(environ) if standard is None else standard)
    if extra and Path(extra).expanduser() not in required:
        source = "--config" if named and str(named) != environ.get(EXTRA_VARIABLE) else EXTRA_VARIABLE
        rule += f"; the file of {source} is read over them"
        required = (*required, Path(extra).expanduser())
    return ConfigFiles(rule, optional, required)


def standard_files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The files that are read where they exist, later ones winning."""
    home = Path(environ.get("HOME") or Path.home())
    return [Path("/etc/slurm-config.ini"), Path("/OMERO/slurm-config.ini"), home / "slurm-config.ini"]


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
