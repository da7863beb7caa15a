"""Decide the outcome of an attempt from three witnesses.

They are the scheduler's final state, the exit marker of the job, and the manifest of its results, which is written
last. Success needs all three: a missing witness never counts as success.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.domain.manifest import ResultManifest
from biomeroworker.errors import Blocked, NodeFault, Permanent, Transient
from biomeroworker.workflows.markers import Exited, JobExit, Markers, Preflight, read_markers


def verdict(status: JobStatus | None, attempt_folder: Path, run: str, attempt: int) -> ResultManifest:
    """The results of an attempt, or the fault that ended it. Reads the folder, then decides (`judge`)."""
    return judge(status, read_markers(attempt_folder), run, attempt)


def verify(results: ResultManifest, out: Path, known: Mapping[str, str] | None = None) -> None:
    """Compare the fetched files with the job's manifest, by size and SHA-256.

    Parameters
    ----------
    known
        Digests by path that were computed during the transfer: these files are not read again.

    Raises
    ------
    Transient
        A file is missing or differs (a slow network file system, a change after the end of the job). A different file
        is removed here, so that it is fetched again.
    """
    for result in results.files:
        file = out / result.path
        try:
            with file.open("rb") as stream:
                digest = (known or {}).get(result.path) or hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            raise Transient(f"{result.path} is in the job's manifest, but was not fetched") from None
        if (file.stat().st_size, digest) != (result.size, result.sha256):
            file.unlink()
            raise Transient(f"{result.path} differs from the file in the job's manifest")


def judge(status: JobStatus | None, markers: Markers, run: str, attempt: int) -> ResultManifest:
    """Decide from the three witnesses. Pure.

    Raises
    ------
    Transient
        A witness is still missing: check again later.
    NodeFault
        The node failed, not the workflow, or the job was preempted: a new attempt may succeed.
    Blocked
        The data folder is full or cannot be read.
    Permanent
        The workflow failed, ran out of time or memory, or was cancelled.
    """
    if status is not None and status.unrecoverable:  # SLURM will never report its end: the job's own marker decides
        done = markers.exited is not None and markers.exited.job == JobExit.DONE
        status = replace(status, state=JobState.COMPLETED if done else JobState.FAILED)
    if status is None or not status.state.is_terminal:
        state = (status.raw_state or status.state.name) if status else "no state of the job"
        raise Transient(f"SLURM reports no final state yet ({state})", detail=_evidence(status, markers))
    evidence = _evidence(status, markers)
    node = _node(status, markers)
    if markers.preflight is not None:
        raise _preflight_fault(markers.preflight, node, evidence)
    match status.state:
        case JobState.NODE_FAIL:
            raise NodeFault(f"node {node} failed while the job ran on it", node=node, detail=evidence)
        case JobState.PREEMPTED:
            # no node is at fault, but only a new attempt can help
            raise NodeFault("the job was preempted", node="", detail=evidence)
        case JobState.CANCELLED:
            raise Permanent("the job was cancelled on the cluster", detail=evidence)
        case JobState.TIMEOUT:
            raise Permanent("the job reached its time limit", hint="request more time", detail=evidence)
        case JobState.OUT_OF_MEMORY:
            raise Permanent("the job ran out of memory", hint="request more memory", detail=evidence)
        case JobState.COMPLETED | JobState.FAILED:
            pass
    _check_exit_marker(status, markers, node, evidence)
    if status.state is not JobState.COMPLETED:
        raise NodeFault("the workflow succeeded, but SLURM reports that its job failed", node=node, detail=evidence)
    if not markers.results:
        raise Transient("the job succeeded, but the manifest of its results is not there yet", detail=evidence)
    return ResultManifest(run=run, attempt=attempt, files=markers.results)


def _check_exit_marker(status: JobStatus, markers: Markers, node: str, evidence: str) -> None:
    """Return if the exit marker proves that the container ended with 0 and wrote results; else raise the fault."""
    exited = markers.exited
    if exited is None:
        if status.state is JobState.COMPLETED:
            raise Transient("the job ended, but its exit marker is not there yet", detail=evidence)
        if markers.started is None:
            raise NodeFault(
                f"the job could not start on node {node}; probably the data folder is not mounted there",
                node=node,
                detail=evidence,
            )
        if status.exit_code in (JobExit.CONVERSION, JobExit.CONTAINER, JobExit.NOTHING, JobExit.RESULTS):
            raise Blocked(
                "the job ended, but could not write its exit marker: probably the data folder is full",
                hint="free space on the cluster",
                detail=evidence,
            )
        if status.signal == 9:
            raise Permanent(
                "the job was killed (signal 9), probably because it ran out of memory", hint="request more memory",
                detail=evidence,
            )  # fmt: skip
        raise NodeFault(f"the job ended on node {node} without an exit marker", node=node, detail=evidence)
    if exited.signal:
        raise NodeFault(f"the job was ended by SIG{exited.signal}", node=node, detail=evidence)
    match exited.job:
        case JobExit.DONE:
            return
        case JobExit.CONVERSION:
            message = f"the conversion to TIFF ended with exit code {exited.code}"
            if exited.code in (255, 74):  # a failure of the runtime; EX_IOERR of sysexits.h, from convert.py
                raise NodeFault(f"{message} on node {node}", node=node, detail=evidence)
            raise Permanent(message, hint="check the images", detail=evidence)
        case JobExit.CONTAINER:
            if _runtime_failed(exited, markers):
                raise NodeFault(f"the container could not be started on node {node}", node=node, detail=evidence)
            raise Permanent(
                f"the container ended with exit code {exited.code}{_meaning(exited.code)}",
                hint="check its error output and the parameters",
                detail=evidence,
            )
        case JobExit.NOTHING:
            raise Permanent("the container ended with exit code 0 but wrote nothing", detail=evidence)
        case _:
            raise NodeFault(f"the job ended with exit code {exited.job} on node {node}", node=node, detail=evidence)


def _preflight_fault(found: Preflight, node: str, evidence: str) -> Exception:
    if found.code == JobExit.NO_ROOM:
        return Blocked(found.sentence, hint="free space on the cluster", detail=evidence)
    return NodeFault(found.sentence, node=found.node or node, detail=evidence)


def _runtime_failed(exited: Exited, markers: Markers) -> bool:
    """Whether the runtime itself failed for a reason that other nodes may not have: Apptainer with 255 and FATAL,
    Charliecloud with an error of ``ch-run``.
    """
    fatal = re.search(r"^FATAL:.*", markers.container_error, re.MULTILINE)
    if exited.code == 255 and fatal is not None:
        return "executable file not found" not in fatal[0]
    error = re.search(r"^ch-run\[\d+\]: error: .*", markers.container_error, re.MULTILINE)
    return exited.code in (1, 31) and error is not None and "can't execve" not in error[0]


def _meaning(code: int | None) -> str:
    """The meaning of an exit code by the convention of shells."""
    match code:
        case 126:
            return " (its program cannot be executed)"
        case 127:
            return " (its program was not found)"
        case 137:
            return " (killed, probably because it ran out of memory)"
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
