"""The files of file parameters of runs without OMERO: files on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from biomeroworker.domain.input_files import FoundFile, lay_out
from biomeroworker.domain.manifest import InputFile
from biomeroworker.domain.source import Guard, ProgressCallback
from biomeroworker.errors import Permanent, RequestRejected


def describe_files(files: Mapping[str, Sequence[int | str]]) -> tuple[InputFile, ...]:
    """The files, by the parameters that they are for. Raises `RequestRejected` if one does not exist."""
    return lay_out(
        {parameter: [_found(parameter, Path(str(one))) for one in given] for parameter, given in files.items()}
    )


def _found(parameter: str, path: Path) -> FoundFile:
    try:
        if not path.is_file():
            raise RequestRejected(f"{parameter}: {path} does not exist or is not a file")
        return FoundFile(path.name, path.stat().st_size, {"file": str(path)})
    except OSError as error:
        raise RequestRejected(f"{parameter}: {path} cannot be read ({error.strerror})") from error


def copy(files: Sequence[InputFile], folder: Path, report: ProgressCallback, guard: Guard) -> None:
    """Copy files to their paths below a folder. Raises `Permanent` if one has another size than when it was listed."""
    for number, file in enumerate(files):
        guard.check()
        report(number / len(files), file.name)
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            shutil.copyfile(str(file.origin["file"]), partial)
        except FileNotFoundError:
            raise Permanent(f"{file.parameter}: {file.origin['file']} does not exist any more") from None
        if partial.stat().st_size != file.size:
            partial.unlink()
            raise Permanent(
                f"{file.parameter}: {file.name} has changed after the run was accepted", hint="start a new run"
            )
        partial.replace(target)
    report(1.0, f"{len(files)} files")
