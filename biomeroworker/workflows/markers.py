"""The markers that a job leaves in its attempt's folder, read and parsed. What they mean is decided in `outcome`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from biomeroworker.domain.manifest import ResultFile
from biomeroworker.errors import Permanent

STARTED, PREFLIGHT, EXITED, RESULTS, PROGRESS = "started", "preflight", "exited", "results", "progress"

#: How much of a container's last words is told.
_TAIL_LINES = 20
_TAIL_BYTES = 16384


class JobExit(enum.IntEnum):
    """How ``job.sh`` ends. SLURM reports these as the job's exit code; the markers say the same in more words."""

    DONE = 0  #: the container ended with 0 and left results, and their manifest is written
    NO_FOLDER = 70  #: preflight: the attempt's folder is not there, or cannot be written, on the node (no marker)
    NO_INPUTS = 71  #: preflight: the inputs, their manifest or the attempt's settings cannot be read
    NO_IMAGE = 72  #: preflight: a container image cannot be read
    NO_RUNTIME = 73  #: preflight: the program that runs containers is not on the node
    NO_ROOM = 74  #: preflight: the data folder is full
    NO_TEMPORARY_ROOM = 75  #: preflight: the node's own temporary folder is full
    CONVERSION = 76  #: OME-Zarr could not be converted to TIFF
    CONTAINER = 77  #: the container ended with something other than 0; `Exited.code` has it
    NOTHING = 78  #: the container ended with 0 and wrote nothing
    SIGNAL = 79  #: the job was told to end (cancelled, out of time)
    RESULTS = 80  #: the results could not be read back
    NOT_HOLDER = 81  #: the attempt is another job's, or was given up: nothing was done (no marker)


class _Marker(BaseModel):
    model_config = ConfigDict(frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if value == "" else value


class Started(_Marker):
    """Written first: the job runs, here."""

    job_id: int | None = None
    node: str | None = None
    restart: int = 0
    time: str | None = None


class Preflight(_Marker):
    """What the job found wrong before it spent anything."""

    code: int
    node: str | None = None
    sentence: str


class Exited(_Marker):
    """How the job ended: in which stage, with which code of the program that ran in it, by which signal."""

    stage: str
    code: int | None = None
    signal: str | None = None
    job: int
    seconds: int = 0
    node: str | None = None


class Markers(BaseModel):
    """All that was found in an attempt's folder; None where there is nothing, or nothing whole."""

    model_config = ConfigDict(frozen=True)

    started: Started | None = None
    preflight: Preflight | None = None
    exited: Exited | None = None
    results: tuple[ResultFile, ...] | None = None
    container_error: str = ""  #: the last lines of the container's stderr (of its stdout, if that is empty)
    conversion_error: str = ""


def read_markers(attempt_folder: Path) -> Markers:
    """Read an attempt's markers from its folder as it was fetched."""
    results = _bytes(attempt_folder / RESULTS)
    return Markers(
        started=parse_marker(Started, _bytes(attempt_folder / STARTED)),
        preflight=parse_marker(Preflight, _bytes(attempt_folder / PREFLIGHT)),
        exited=parse_marker(Exited, _bytes(attempt_folder / EXITED)),
        results=None if results is None else parse_results(results),
        container_error=_tail(attempt_folder, "container"),
        conversion_error=_tail(attempt_folder, "convert"),
    )


_M = TypeVar("_M", bound=_Marker)


def parse_marker(kind: type[_M], content: bytes | None) -> _M | None:
    """A marker from its ``key=value`` lines; None when there is none or it makes no sense (it proves nothing then)."""
    if content is None:
        return None
    lines = content.decode(errors="replace").splitlines()
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    try:
        return kind.model_validate(fields)
    except ValidationError:
        return None


def parse_results(content: bytes) -> tuple[ResultFile, ...]:
    """The job's manifest: ``<sha256> <size> <path below out/>`` records, each ended by a NUL byte.

    Raises
    ------
    Permanent
        A record that no job of ours writes, or a file name that is not UTF-8.
    """
    if content and not content.endswith(b"\0"):
        raise Permanent("the manifest of the results is cut off", detail=repr(content[-80:]))
    found = []
    for record in content.split(b"\0")[:-1]:
        try:
            digest, size, path = record.decode().split(" ", 2)
            found.append(ResultFile(path=path, size=int(size), sha256=digest))
        except UnicodeDecodeError as error:
            raise Permanent(
                f"the workflow wrote a file whose name is not UTF-8: {record[65:]!r}", hint="mend the workflow"
            ) from error
        except ValueError as error:
            raise Permanent(f"the manifest of the results has a record that makes no sense: {record!r}") from error
    return tuple(found)


def _bytes(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _tail(folder: Path, stem: str) -> str:
    for name in (f"{stem}.err", f"{stem}.out"):
        try:
            with (folder / name).open("rb") as stream:
                stream.seek(max(0, (folder / name).stat().st_size - _TAIL_BYTES))
                text = stream.read().decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            return "\n".join(text.splitlines()[-_TAIL_LINES:])
    return ""
