"""The ini files that are read, and detection of changes.

By default the standard files are read; later files override earlier ones. If `BIOMERO_SLURM_CONFIG_FILE` is set, only
that file is read in place of the standard files, as in biomero. The packaged defaults are read before these files, the
file of `BIOMERO_CONFIG` or `--config` after them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: The variable with the file that is read after the others.
EXTRA_VARIABLE = "BIOMERO_CONFIG"
#: The variable with the file that is read in place of the standard files.
ALONE_VARIABLE = "BIOMERO_SLURM_CONFIG_FILE"


@dataclass(frozen=True)
class ConfigFiles:
    """The files of a configuration. Later files override earlier ones; the ``required`` files must exist."""

    rule: str  #: which files are read, and why, as a sentence for users
    optional: tuple[Path, ...]
    required: tuple[Path, ...]

    @property
    def existing(self) -> tuple[Path, ...]:
        """The files to read."""
        return (*(file for file in self.optional if file.is_file()), *self.required)

    def stamp(self) -> tuple[object, ...]:
        """A value that changes when a file is written, replaced, added or removed. Costs one `stat` per file."""
        return tuple(map(_stamp, (*self.optional, *self.required)))

    def digest(self) -> str:
        """A hash of the content of the files."""
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
    """The files to read.

    Parameters
    ----------
    named
        The file of ``--config``. None: the file of ``BIOMERO_CONFIG``, if that is set.
    standard
        Files to use instead of `standard_files`.
    """
    alone, extra = environ.get(ALONE_VARIABLE, "").strip(), named or environ.get(EXTRA_VARIABLE, "").strip()
    optional: tuple[Path, ...] = ()
    required: tuple[Path, ...] = ()
    if alone:
        rule = f"{ALONE_VARIABLE} is set: only its file is read, in place of the standard files"
        required = (Path(alone).expanduser(),)
    else:
        rule = "the standard files are read; later files override earlier ones"
        optional = tuple(standard_files(environ) if standard is None else standard)
    if extra and Path(extra).expanduser() not in required:
        source = "--config" if named and str(named) != environ.get(EXTRA_VARIABLE) else EXTRA_VARIABLE
        rule += f"; the file of {source} is read after them"
        required = (*required, Path(extra).expanduser())
    return ConfigFiles(rule, optional, required)


def standard_files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The standard files, of which those that exist are read. Later files override earlier ones."""
    home = Path(environ.get("HOME") or Path.home())
    return [Path("/etc/slurm-config.ini"), Path("/OMERO/slurm-config.ini"), home / "slurm-config.ini"]


def _stamp(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
