"""Where the files of file parameters are in a run's folder, and which path the container gets. Pure.

Each file parameter has a folder of its own, ``files/p<n>``. A file keeps its name, as far as it is safe in any file
system and shell: containers read the format from the suffix, and tools find files of a set by their names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from biomeroworker.domain.manifest import InputFile, InputManifest

#: The folder below that of a run.
FILES_FOLDER = "files"
#: Characters of a file's name.
NAME_CHARACTERS = 100


@dataclass(frozen=True)
class FoundFile:
    """A file of the source: its name there, its size in bytes, and a reference that only the source interprets."""

    name: str
    size: int
    origin: Mapping[str, str | int] = field(default_factory=dict)


def safe_name(name: str) -> str:
    """The last part of a name, with only letters, digits and ``._-``; the suffix of a long name remains."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "_", re.split(r"[/\\]", name)[-1]).lstrip(".-")
    return last[-NAME_CHARACTERS:].lstrip(".-") or "file"


def lay_out(found: Mapping[str, Iterable[FoundFile]]) -> tuple[InputFile, ...]:
    """Give each file its path in the run's folder, by parameter; files of the same name get a number."""
    files = []
    for number, (parameter, several) in enumerate(found.items(), start=1):
        taken: set[str] = set()
        for count, one in enumerate(several, start=1):
            name = safe_name(one.name)
            if name.casefold() in taken:
                name = f"{count}_{name}"
            taken.add(name.casefold())
            files.append(
                InputFile(
                    parameter=parameter,
                    path=f"{FILES_FOLDER}/p{number}/{name}",
                    name=one.name,
                    size=one.size,
                    origin=dict(one.origin),
                )
            )
    return tuple(files)


def values(manifest: InputManifest, run_folder: str, folders: Collection[str] = ()) -> dict[str, str]:
    """The values of file parameters: the path of the only file, or the folder of several.

    Parameters
    ----------
    run_folder
        The folder of the run on the cluster, absolute; a container sees it under the same path.
    folders
        The parameters that get a folder also for one file.
    """
    found: dict[str, list[str]] = {}
    for file in manifest.files:
        found.setdefault(file.parameter, []).append(f"{run_folder}/{file.path}")
    return {
        parameter: paths[0].rpartition("/")[0] if len(paths) > 1 or parameter in folders else paths[0]
        for parameter, paths in found.items()
    }
