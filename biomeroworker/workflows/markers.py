"""What a job leaves behind, read and judged.

Success has three witnesses: the scheduler's final state, the job's own exit marker, and the manifest of its results,
which is written last. `verdict` hears all three; a missing witness is never taken for a good one.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from biomeroworker.cluster.slurm.scheduler import JobState, JobStatus
from biomeroworker.domain.manifest import ResultFile, ResultManifest
from biomeroworker.errors import Blocked, NodeFault, Permanent, Transient

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


def verdict(status: JobStatus | None, attempt_folder: Path, run: str, attempt: int) -> ResultManifest:
    """What became of an attempt: its results, or the fault that ended it. Reads the folder, then decides (`judge`)."""
    return judge(status, read_markers(attempt_folder), run, attempt)


def verify(results: ResultManifest, out: Path, known: Mapping[str, str] | None = None) -> None:
    """See that what was fetched is what the job left: each file's size and SHA-256, as the job itself took them.

    Parameters
    ----------
    known
        Digests by path that were taken while the files travelled: these are not read once more.

    Raises
    ------
    Transient
        A file is missing or another one (a file system that lags behind, a change after the end of the job). It is
        removed here, so that it is fetched anew.
    """
    for result in results.files:
        file = out / result.path
        try:
            with file.open("rb") as stream:
                digest = (known or {}).get(result.path) or hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise Transient(f"{result.path} is in the job's manifest, but has not come back") from None
        if (file.stat().st_size, digest) != (result.size, result.sha256):
            file.unlink()
            raise Transient(f"{result.path} is not the file that the job's manifest names")


def judge(status: JobStatus | None, markers: Markers, run: str, attempt: int) -> ResultManifest:
    """Hear the three witnesses. Pure.

    Raises
    ------
    Transient
        A witness has not spoken yet: look again.
    NodeFault
        The node failed, not the workflow, or the job had to make way: another attempt may do.
    Blocked
        The data folder is full or cannot be read.
    Permanent
        The workflow failed, ran out of time or memory, or was cancelled.
    """
    if status is not None and status.forgotten:  # nobody will ever say more of it: its own word counts
        done = markers.exited is not None and markers.exited.job == JobExit.DONE
        status = replace(status, state=JobState.COMPLETED if done else JobState.FAILED)
    if status is None or not status.state.is_terminal:
        word = f"says {status.raw_state or status.state.name}" if status else "does not say what became of the job"
        raise Transient(f"the job has not ended for certain: SLURM {word}", detail=_evidence(status, markers))
    evidence = _evidence(status, markers)
    node = _node(status, markers)
    if markers.preflight is not None:
        raise _preflight_fault(markers.preflight, node, evidence)
    match status.state:
        case JobState.NODE_FAIL:
            raise NodeFault(f"node {node} failed while the job ran on it", node=node, detail=evidence)
        case JobState.PREEMPTED:
            # no node is at fault, but looking again cannot help: it takes another attempt
            raise NodeFault("the job had to make way for another one", node="", detail=evidence)
        case JobState.CANCELLED:
            raise Permanent("the job was cancelled on the cluster", detail=evidence)
        case JobState.TIMEOUT:
            raise Permanent("the job ran out of its time", hint="ask for more time", detail=evidence)
        case JobState.OUT_OF_MEMORY:
            raise Permanent("the job ran out of memory", hint="ask for more memory", detail=evidence)
        case JobState.COMPLETED | JobState.FAILED:
            pass
    _hear_the_job(status, markers, node, evidence)
    if status.state is not JobState.COMPLETED:
        raise NodeFault("the workflow did its work, but SLURM says that its job failed", node=node, detail=evidence)
    if not markers.results:
        raise Transient("the job ended well, but the manifest of its results is not to be seen yet", detail=evidence)
    return ResultManifest(run=run, attempt=attempt, files=markers.results)


def _hear_the_job(status: JobStatus, markers: Markers, node: str, evidence: str) -> None:
    """Return if the job itself says that its container ended with 0 and left something; raise its fault if not."""
    exited = markers.exited
    if exited is None:
        if status.state is JobState.COMPLETED:
            raise Transient("the job ended, but its exit marker is not to be seen yet", detail=evidence)
        if markers.started is None:
            raise NodeFault(
                f"the job could not start on node {node}; the data folder is probably not mounted there",
                node=node,
                detail=evidence,
            )
        if status.exit_code in (JobExit.CONVERSION, JobExit.CONTAINER, JobExit.NOTHING, JobExit.RESULTS):
            raise Blocked(
                "the job ended, but could not write down how: the data folder is probably full",
                hint="free space on the cluster",
                detail=evidence,
            )
        if status.signal == 9:
            raise Permanent(
                "the job was killed (signal 9), as happens when memory runs out", hint="ask for more memory",
                detail=evidence,
            )  # fmt: skip
        raise NodeFault(f"the job vanished from node {node} without a word", node=node, detail=evidence)
    if exited.signal:
        raise NodeFault(f"the job was told to end (SIG{exited.signal})", node=node, detail=evidence)
    match exited.job:
        case JobExit.DONE:
            return
        case JobExit.CONVERSION:
            message = f"the conversion to TIFF ended with {exited.code}"
            if exited.code in (255, 74):  # the runtime's own failure, and EX_IOERR of sysexits.h, from convert.py
                raise NodeFault(f"{message} on node {node}", node=node, detail=evidence)
            raise Permanent(message, hint="look at the images", detail=evidence)
        case JobExit.CONTAINER:
            if _runtime_failed(exited, markers):
                raise NodeFault(f"the container could not be started on node {node}", node=node, detail=evidence)
            raise Permanent(
                f"the container ended with exit code {exited.code}{_meaning(exited.code)}",
                hint="look at its last words and at the parameters",
                detail=evidence,
            )
        case JobExit.NOTHING:
            raise Permanent("the container ended with exit code 0 but wrote nothing", detail=evidence)
        case _:
            raise NodeFault(f"the job ended with {exited.job} on node {node}", node=node, detail=evidence)


def _preflight_fault(found: Preflight, node: str, evidence: str) -> Exception:
    if found.code == JobExit.NO_ROOM:
        return Blocked(found.sentence, hint="free space on the cluster", detail=evidence)
    return NodeFault(found.sentence, node=found.node or node, detail=evidence)


def _runtime_failed(exited: Exited, markers: Markers) -> bool:
    """Whether the runtime itself gave up, for a reason that another node may not have: Apptainer with 255 and FATAL,
    Charliecloud with a line of ``ch-run``'s own.
    """
    fatal = re.search(r"^FATAL:.*", markers.container_error, re.MULTILINE)
    if exited.code == 255 and fatal is not None:
        return "executable file not found" not in fatal[0]
    error = re.search(r"^ch-run\[\d+\]: error: .*", markers.container_error, re.MULTILINE)
    return exited.code in (1, 31) and error is not None and "can't execve" not in error[0]


def _meaning(code: int | None) -> str:
    """What the shell's convention makes of an exit code."""
    match code:
        case 126:
            return " (its program cannot be executed)"
        case 127:
            return " (its program was not found)"
        case 137:
            return " (killed, as happens when memory runs out)"
        case 139:
            return " (a crash: segmentation fault)"
        case _:
            return ""


def _node(status: JobStatus | None, markers: Markers) -> str:
    for one in (markers.exited, markers.started):
        if one is not None and one.node:
            return one.node
    return (status.node if status else "") or "unknown"


def _evidence(status: JobStatus | None, markers: Markers) -> str:
    lines = []
    if status is not None:
        facts = [f"SLURM job {status.job_id}: {status.raw_state or status.state.name}"]
        facts += [f"reason {status.reason}"] if status.reason and status.reason != "None" else []
        facts += [f"exit code {status.exit_code}"] if status.exit_code is not None else []
        facts += [f"on {status.node}"] if status.node else []
        lines.append(", ".join(facts))
    in_conversion = markers.exited is not None and markers.exited.stage == "conversion"
    words = markers.conversion_error if in_conversion else markers.container_error
    if words:
        lines += ["last lines of stderr:", words]
    return "\n".join(lines)


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
