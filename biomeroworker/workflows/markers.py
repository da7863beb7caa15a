"""Read and parse the markers that a job writes into its attempt's folder. `outcome` interprets them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from biomeroworker.domain.manifest import ResultFile
from biomeroworker.errors import Permanent

STARTED, PREFLIGHT, EXITED, RESULTS, PROGRESS = "started", "preflight", "exited", "results", "progress"

#: How much of a container's error output a message contains.
_TAIL_LINES = 20
_TAIL_BYTES = 16384


class JobExit(enum.IntEnum):
    """Exit codes of ``job.sh``. SLURM reports them as the job's exit code; the markers have more details."""

    DONE = 0  #: the container ended with 0 and wrote results, and their manifest is written
    NO_FOLDER = 70  #: preflight: the attempt's folder is missing or cannot be written on the node (no marker)
    NO_INPUTS = 71  #: preflight: the inputs, their manifest or the attempt's settings cannot be read
    NO_IMAGE = 72  #: preflight: a container image cannot be read
    NO_RUNTIME = 73  #: preflight: the container program is not on the node
    NO_ROOM = 74  #: preflight: the data folder is full
    NO_TEMPORARY_ROOM = 75  #: preflight: the node's own temporary folder is full
    CONVERSION = 76  #: OME-Zarr could not be converted to TIFF
    CONTAINER = 77  #: the container ended with another code than 0, which is in `Exited.code`
    NOTHING = 78  #: the container ended with 0 and wrote nothing
    SIGNAL = 79  #: the job got a signal (cancelled, time limit)
    RESULTS = 80  #: the results could not be read
    NOT_HOLDER = 81  #: the attempt belongs to another job, or was abandoned: nothing was done (no marker)


class _Marker(BaseModel):
    model_config = ConfigDict(frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        return None if value == "" else value


class Started(_Marker):
    """The first marker: the job runs on this node."""

    job_id: int | None = None
    node: str | None = None
    restart: int = 0
    time: str | None = None


class Preflight(_Marker):
    """A failed check at the start of the job."""

    code: int
    node: str | None = None
    sentence: str


class Exited(_Marker):
    """How the job ended: its stage, the exit code of the program in this stage, and the signal."""

    stage: str
    code: int | None = None
    signal: str | None = None
    job: int
    seconds: int = 0
    node: str | None = None


class Markers(BaseModel):
    """The markers in an attempt's folder; None for a missing or incomplete one."""

    model_config = ConfigDict(frozen=True)

    started: Started | None = None
    preflight: Preflight | None = None
    exited: Exited | None = None
    results: tuple[ResultFile, ...] | None = None
    container_error: str = ""  #: the last lines of the container's stderr, or of its stdout if stderr is empty
    conversion_error: str = ""


def read_markers(attempt_folder: Path) -> Markers:
    """Read an attempt's markers from its fetched folder."""
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
    """A marker from its ``key=value`` lines; None if it is missing or invalid (then it proves nothing)."""
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
        An invalid record, or a file name that is not UTF-8.
    """
    if content and not content.endswith(b"\0"):
        raise Permanent("the manifest of the results is incomplete", detail=repr(content[-80:]))
    found = []
    for record in content.split(b"\0")[:-1]:
        try:
            digest, size, path = record.decode().split(" ", 2)
            found.append(ResultFile(path=path, size=int(size), sha256=digest))
        except UnicodeDecodeError as error:
            raise Permanent(
                f"the workflow wrote a file whose name is not UTF-8: {record[65:]!r}", hint="correct the workflow"
            ) from error
        except ValueError as error:
            raise Permanent(f"the manifest of the results has an invalid record: {record!r}") from error
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
