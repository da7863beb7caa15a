"""Three witnesses: what each combination of the scheduler's word and the job's own markers comes to."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.domain.manifest import ResultFile
from biomeroworker.errors import Blocked, Fault, NodeFault, Permanent, Transient
from biomeroworker.workflows.markers import (
    Exited,
    JobExit,
    Markers,
    Preflight,
    Started,
    parse_marker,
    parse_results,
    read_markers,
)
from biomeroworker.workflows.outcome import judge, verdict

STARTED = Started(job_id=7, node="n1")
FILES = (ResultFile(path="image-1_mask.tif", size=3, sha256="0" * 64),)


def status(state: JobState, exit_code: int | None = None, signal: int | None = None) -> JobStatus:
    return JobStatus("biomero-x-1", 7, state, state.name, exit_code=exit_code, signal=signal, node="n1")


def exited(job: JobExit, code: int | None = 0, signal: str | None = None, stage: str = "container") -> Exited:
    return Exited(stage=stage, code=code, signal=signal, job=job, node="n1")


WELL = exited(JobExit.DONE)

#: Status, markers, and the outcome.
TABLE: list[tuple[str, JobStatus | None, Markers, type[Fault] | None, str]] = [
    ("three good witnesses", status(JobState.COMPLETED, 0), Markers(started=STARTED, exited=WELL, results=FILES),
     None, ""),
    # -- a witness is missing: never success
    ("no status", None, Markers(started=STARTED, exited=WELL, results=FILES), Transient, "no state of the job"),
    ("unknown word", status(JobState.UNKNOWN), Markers(exited=WELL, results=FILES), Transient, "no final state"),
    ("pending", status(JobState.PENDING), Markers(), Transient, "no final state"),
    ("running", status(JobState.RUNNING), Markers(started=STARTED), Transient, "no final state"),
    ("no exit marker yet", status(JobState.COMPLETED, 0), Markers(started=STARTED), Transient, "exit marker"),
    ("results but no exit marker", status(JobState.COMPLETED, 0), Markers(results=FILES), Transient, "exit marker"),
    ("no manifest yet", status(JobState.COMPLETED, 0), Markers(started=STARTED, exited=WELL), Transient, "manifest"),
    ("an empty manifest", status(JobState.COMPLETED, 0), Markers(exited=WELL, results=()), Transient, "manifest"),
    # -- the workflow
    ("container failed", status(JobState.FAILED, 77), Markers(started=STARTED, exited=exited(JobExit.CONTAINER, 3)),
     Permanent, "exit code 3"),
    ("container failed, files left", status(JobState.FAILED, 77),
     Markers(exited=exited(JobExit.CONTAINER, 3), results=FILES), Permanent, "exit code 3"),
    ("container failed, scheduler content", status(JobState.COMPLETED, 0),
     Markers(exited=exited(JobExit.CONTAINER, 3), results=FILES), Permanent, "exit code 3"),
    ("wrote nothing", status(JobState.FAILED, 78), Markers(exited=exited(JobExit.NOTHING)), Permanent, "wrote nothing"),
    ("bad image", status(JobState.FAILED, 76), Markers(exited=exited(JobExit.CONVERSION, 1, stage="conversion")),
     Permanent, "conversion"),
    ("killed in the container", status(JobState.FAILED, 77), Markers(exited=exited(JobExit.CONTAINER, 137)),
     Permanent, "memory"),
    ("killed with its job", status(JobState.FAILED, 0, 9), Markers(started=STARTED), Permanent, "memory"),
    # -- the node
    ("conversion could not read", status(JobState.FAILED, 76),
     Markers(exited=exited(JobExit.CONVERSION, 74, stage="conversion")), NodeFault, "conversion"),
    ("never started", status(JobState.FAILED, 1), Markers(), NodeFault, "mounted"),
    ("vanished", status(JobState.FAILED, 1), Markers(started=STARTED), NodeFault, "without an exit marker"),
    ("could not write how it ended", status(JobState.FAILED, 77), Markers(started=STARTED), Blocked, "full"),
    ("signal", status(JobState.FAILED, 79), Markers(exited=exited(JobExit.SIGNAL, None, "TERM")),
     NodeFault, "SIGTERM"),
    ("results unreadable", status(JobState.FAILED, 80), Markers(exited=exited(JobExit.RESULTS)), NodeFault, "80"),
    ("job well, scheduler not", status(JobState.FAILED, 0), Markers(exited=WELL, results=FILES),
     NodeFault, "SLURM reports"),
    ("runtime broken", status(JobState.FAILED, 77),
     Markers(exited=exited(JobExit.CONTAINER, 255), container_error="FATAL:   while mounting image: no fuse"),
     NodeFault, "could not be started"),
    ("program missing in image", status(JobState.FAILED, 77),
     Markers(exited=exited(JobExit.CONTAINER, 255), container_error='FATAL: "x": executable file not found in $PATH'),
     Permanent, "255"),
    ("exit code 255", status(JobState.FAILED, 77), Markers(exited=exited(JobExit.CONTAINER, 255)), Permanent, "255"),
    ("no mount", status(JobState.FAILED, 71), Markers(preflight=Preflight(code=71, node="n1", sentence="inputs gone")),
     NodeFault, "inputs gone"),
    ("no runtime", status(JobState.FAILED, 73),
     Markers(preflight=Preflight(code=73, node="n1", sentence="no apptainer")),
     NodeFault, "no apptainer"),
    ("node's disk full", status(JobState.FAILED, 75),
     Markers(preflight=Preflight(code=75, node="n1", sentence="tmp full")),
     NodeFault, "tmp full"),
    ("data folder full", status(JobState.FAILED, 74), Markers(preflight=Preflight(code=74, node="n1", sentence="full")),
     Blocked, "full"),
    # -- outcomes of their own, whatever the job left
    ("out of memory", status(JobState.OUT_OF_MEMORY, 0), Markers(exited=WELL, results=FILES), Permanent, "memory"),
    ("out of time", status(JobState.TIMEOUT), Markers(exited=exited(JobExit.SIGNAL, None, "TERM")), Permanent, "time"),
    ("cancelled", status(JobState.CANCELLED), Markers(exited=exited(JobExit.SIGNAL, None, "TERM")),
     Permanent, "cancelled"),
    ("node lost", status(JobState.NODE_FAIL), Markers(started=STARTED), NodeFault, "n1"),
    ("preempted", status(JobState.PREEMPTED), Markers(started=STARTED), NodeFault, "preempted"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "reported", "markers", "kind", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_verdict(what: str, reported: JobStatus | None, markers: Markers, kind: type[Fault] | None, words: str) -> None:
    if kind is None:
        assert judge(reported, markers, "r", 1).files == FILES
        return
    with pytest.raises(kind, match=words) as caught:
        judge(reported, markers, "r", 1)
    assert type(caught.value) is kind
    if isinstance(caught.value, NodeFault):
        assert caught.value.node == ("" if what == "preempted" else "n1")
    if reported is not None:
        assert reported.state.name in caught.value.detail


def test_only_three_good_witnesses_make_a_success() -> None:
    """Every combination: success needs COMPLETED, an exit of 0, results, and no preflight fault."""
    exits = [None, *(exited(job) for job in JobExit)]
    preflights = [None, Preflight(code=71, sentence="x")]
    for state, ended, results, fault in itertools.product([None, *JobState], exits, [None, (), FILES], preflights):
        reported = None if state is None else status(state)
        markers = Markers(started=STARTED, exited=ended, results=results, preflight=fault)
        good = state is JobState.COMPLETED and ended == WELL and results == FILES and fault is None
        try:
            judge(reported, markers, "r", 1)
            succeeded = True
        except Fault:
            succeeded = False
        assert succeeded == good, (state, ended, results, fault)


def test_the_last_lines_of_the_container_are_reported(tmp_path: Path) -> None:
    (tmp_path / "exited").write_text("stage=container\ncode=3\nsignal=\njob=77\nseconds=2\nnode=n1\n")
    (tmp_path / "container.err").write_text("".join(f"line {n}\n" for n in range(100)))
    with pytest.raises(Permanent) as caught:
        verdict(status(JobState.FAILED, 77), tmp_path, "r", 1)
    assert "line 99" in caught.value.detail
    assert "line 10\n" not in caught.value.detail


def test_stdout_replaces_an_empty_stderr(tmp_path: Path) -> None:
    (tmp_path / "container.err").write_text("\n")
    (tmp_path / "container.out").write_bytes(b"Traceback \xff\n")
    assert read_markers(tmp_path).container_error == "Traceback �"


def test_an_invalid_marker_proves_nothing() -> None:
    assert parse_marker(Exited, b"stage=container\ncode=0\n") is None
    assert parse_marker(Exited, b"") is None
    assert parse_marker(Exited, b"\0\xff") is None


def test_results_keep_any_name() -> None:
    digest = "ab" * 32
    record = f"{digest} 12 a b [1];$(touch x)\nä=.tif\0".encode()
    assert parse_results(record) == (ResultFile(path="a b [1];$(touch x)\nä=.tif", size=12, sha256=digest),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ab 12 cut", "is incomplete"),
        (b"ab x name\0", "invalid record"),
        (b"ab 12 ../../etc/passwd\0", "invalid record"),
        (b"ab 12 /etc/passwd\0", "invalid record"),
        (b"a" * 64 + b" 1 \xff.tif\0", "not UTF-8"),
    ],
)
def test_an_invalid_manifest_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(Permanent, match=words):
        parse_results(content)
