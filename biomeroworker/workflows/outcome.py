"""What became of an attempt, decided from three witnesses.

Success has three witnesses: the scheduler's final state, the job's own exit marker, and the manifest of its results,
which is written last. A missing witness never counts as success.
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
    if status is not None and status.unrecoverable:  # nobody will ever say more of it: its own word counts
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
    _check_exit_marker(status, markers, node, evidence)
    if status.state is not JobState.COMPLETED:
        raise NodeFault("the workflow did its work, but SLURM says that its job failed", node=node, detail=evidence)
    if not markers.results:
        raise Transient("the job ended well, but the manifest of its results is not to be seen yet", detail=evidence)
    return ResultManifest(run=run, attempt=attempt, files=markers.results)


def _check_exit_marker(status: JobStatus, markers: Markers, node: str, evidence: str) -> None:
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
