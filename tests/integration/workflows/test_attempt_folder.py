"""The job script, run by a real bash, with a scripted program in place of the container."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.domain.manifest import InputManifest, PhysicalSize
from biomeroworker.errors import Blocked, NodeFault, Permanent
from biomeroworker.imaging.ome_zarr import write_image
from biomeroworker.workflows import attempt_folder
from biomeroworker.workflows.markers import JobExit, read_markers
from biomeroworker.workflows.outcome import verdict

#: In place of a container: does what its first argument selects, and records the other arguments.
CONTAINER = """\
import os, signal, sys, time
from pathlib import Path
out = Path(os.environ["ATTEMPT"], "out")
match sys.argv[1]:
    case "write":
        (out / "argv").write_bytes(b"".join(os.fsencode(word) + bytes(1) for word in sys.argv[2:]))
    case "fail":
        (out / "half.tif").write_text("half")
        print("cannot find nuclei", file=sys.stderr)
        sys.exit(int(sys.argv[2]))
    case "nothing":
        (out / "empty folder").mkdir()
    case "percents":
        print("reading 3%\\rsegmenting 42.5% of 7 images", file=sys.stderr, flush=True)
        while not Path(os.environ["ATTEMPT"], "progress").exists():
            time.sleep(0.1)
        (out / "seen").write_bytes(Path(os.environ["ATTEMPT"], "progress").read_bytes())
    case "sleep":
        print(os.getpid(), flush=True)
        time.sleep(60)
    case "die":
        os.kill(os.getpid(), signal.SIGKILL)
    case "list":
        print(*sorted(file.name for file in Path(sys.argv[2]).iterdir()))
        (out / "seen").write_text("x")
    case "names":
        (out / "sub").mkdir()
        for name in ("a b [1];$(touch x).tif", "line\\nbreak", "-n", "sub/é", "back\\\\slash"):
            (out / name).write_text(name)
        (out / "link").symlink_to("/etc/passwd")
"""


@dataclass
class Attempt:
    """One attempt's folder on this machine, and the job that was run in it."""

    run: Path
    number: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.run / f"attempt-{self.number}"

    def prepare(
        self, *words: str, prefix: Sequence[str] = (), free_kib: int = 0, temporary_kib: int = 0, **more: object
    ) -> None:
        program = self.run / "container.py"
        program.write_text(CONTAINER)
        self.folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, object] = {
            "converter_prefix": None, "image_path": str(program), "data_folder": str(self.run.parent),
            **more,
        }  # fmt: skip
        attempt_folder.prepare_attempt(
            self.folder,
            remote_attempt=str(self.folder),
            prefix=prefix or [sys.executable, str(program)],
            arguments=words,
            **settings,  # type: ignore[arg-type]
        )
        conf = self.folder / "job.conf"
        needs = f"min_free_kib={free_kib}\nmin_temporary_kib={temporary_kib}\n"
        conf.write_text(re.sub(r"(?m)^min_(?:free|temporary)_kib=[0-9]+\n", "", conf.read_text()) + needs)

    def start(self) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "ATTEMPT": str(self.folder),
            "SLURM_JOB_ID": "42", "SLURMD_NODENAME": "n7", "SLURM_CPUS_PER_TASK": "2", **self.environment,
        }  # fmt: skip
        # As slurmd does it: a copy of the script, started elsewhere, in a process group of its own.
        script = shutil.copy(self.folder / attempt_folder.SCRIPT, self.run / "slurm_script")
        return subprocess.Popen(
            ["/bin/bash", script, str(self.folder)], cwd="/", env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def go(self) -> int:
        job = self.start()
        self.output = job.communicate(timeout=60)[0]
        return job.returncode

    def status(self, code: int) -> JobStatus:
        state = JobState.FAILED if code else JobState.COMPLETED
        return JobStatus("biomero-r-1", 42, state, state.name, exit_code=code, node="n7")


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    run = tmp_path / "biomero_run"
    (run / "in").mkdir(parents=True)
    (run / "inputs.json").write_text(InputManifest(run="r", images=()).model_dump_json())
    return Attempt(run)


HOSTILE = [
    "--note=$(touch /tmp/x)", "`id`", "a'b\"c", "line\nbreak\n", "", "-rf", "--", "* ? [a-z]", "~", "$HOME",
    "tab\tend ", "; exit 1", "ü—\u2028", "\\", "\\n", "&& ||", "%s%n", "x" * 100_000,
]  # fmt: skip


def test_arguments_arrive_byte_for_byte(attempt: Attempt) -> None:
    attempt.prepare("write", *HOSTILE)
    assert attempt.go() == JobExit.DONE, attempt.output
    assert (attempt.folder / "out/argv").read_bytes() == b"".join(word.encode() + b"\0" for word in HOSTILE)


def test_a_good_job_leaves_its_markers_and_its_manifest(attempt: Attempt) -> None:
    attempt.prepare("names")
    code = attempt.go()
    assert code == JobExit.DONE, attempt.output
    markers = read_markers(attempt.folder)
    assert markers.started is not None
    assert (markers.started.job_id, markers.started.node, markers.started.restart) == (42, "n7", 0)
    assert markers.exited is not None
    assert (markers.exited.stage, markers.exited.code, markers.exited.signal) == ("results", 0, None)
    found = {one.path: one for one in verdict(attempt.status(code), attempt.folder, "r", 1).files}
    assert set(found) == {"a b [1];$(touch x).tif", "line\nbreak", "-n", "sub/é", "back\\slash"}  # and no link
    for path, one in found.items():
        assert one.size == len(path.encode())
        assert one.sha256 == hashlib.sha256(path.encode()).hexdigest()
    assert not list(attempt.folder.glob("*.part"))


def test_a_container_that_exits_3_fails_though_it_left_a_file(attempt: Attempt) -> None:
    attempt.prepare("fail", "3")
    code = attempt.go()
    assert code == JobExit.CONTAINER
    assert not (attempt.folder / "results").exists()
    with pytest.raises(Permanent, match="exit code 3") as caught:
        verdict(attempt.status(code), attempt.folder, "r", 1)
    assert "cannot find nuclei" in caught.value.detail


def test_a_container_that_writes_nothing_fails(attempt: Attempt) -> None:
    attempt.prepare("nothing")
    code = attempt.go()
    assert code == JobExit.NOTHING
    with pytest.raises(Permanent, match="wrote nothing"):
        verdict(attempt.status(code), attempt.folder, "r", 1)


def test_a_killed_container_is_reported_as_such(attempt: Attempt) -> None:
    attempt.prepare("die")
    code = attempt.go()
    assert code == JobExit.CONTAINER
    with pytest.raises(Permanent, match="exit code 137"):
        verdict(attempt.status(code), attempt.folder, "r", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_terminated_job_records_it_and_stops_its_container(attempt: Attempt, number: signal.Signals) -> None:
    attempt.prepare("sleep")
    job = attempt.start()
    pid = int(_eventually(lambda: (attempt.folder / "container.out").read_text()))
    started = time.monotonic()
    job.send_signal(number)
    assert job.wait(timeout=20) == JobExit.SIGNAL
    assert time.monotonic() - started < 5
    job.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    exited = read_markers(attempt.folder).exited
    assert exited is not None
    assert (exited.stage, exited.signal, exited.code) == ("container", number.name.removeprefix("SIG"), None)


def _eventually(read: object, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if text := read().strip():  # type: ignore[operator]
                return str(text)
        time.sleep(0.02)
    raise AssertionError("nothing came")


def test_a_requeued_job_starts_from_nothing(attempt: Attempt) -> None:
    attempt.prepare("fail", "3")
    attempt.go()
    assert (attempt.folder / "out/half.tif").exists()
    attempt.prepare("write", "x")
    attempt.environment["SLURM_RESTART_COUNT"] = "1"
    code = attempt.go()
    assert [one.path for one in verdict(attempt.status(code), attempt.folder, "r", 1).files] == ["argv"]
    started = read_markers(attempt.folder).started
    assert started is not None
    assert started.restart == 1


# -- preflight ------------------------------------------------------------------------------------------------------


def test_an_unmounted_folder_is_reported_on_stderr(attempt: Attempt) -> None:
    attempt.prepare("write")
    job = subprocess.run(
        ["/bin/bash", attempt.folder / attempt_folder.SCRIPT, "/not/mounted/attempt-1"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert job.returncode == JobExit.NO_FOLDER
    assert "is the data folder mounted" in job.stderr


def _remove(*paths: str) -> object:
    def remove(attempt: Attempt) -> None:
        for path in paths:
            target = attempt.run / path
            shutil.rmtree(target) if target.is_dir() else target.unlink()

    return remove


@pytest.mark.parametrize(
    ("change", "settings", "code", "kind", "words"),
    [
        (_remove("inputs.json"), {}, JobExit.NO_INPUTS, NodeFault, "manifest cannot be read on node n7"),
        (_remove("in"), {}, JobExit.NO_INPUTS, NodeFault, "input folder"),
        (_remove("attempt-1/arguments"), {}, JobExit.NO_INPUTS, NodeFault, "are missing or cannot be read"),
        (None, {"image_path": "/no/such.sif"}, JobExit.NO_IMAGE, NodeFault, r"/no/such\.sif cannot be read"),
        (None, {"converter_image": "/no/c.sif"}, JobExit.NO_IMAGE, NodeFault, r"/no/c\.sif cannot be read"),
        (None, {"prefix": ["no-such-one", "run"]}, JobExit.NO_RUNTIME, NodeFault, "no-such-one is not on node n7"),
        (None, {"prefix": ["env", "-u", "A", "B=c", "no-such-one"]}, JobExit.NO_RUNTIME, NodeFault, "no-such-one is"),
        (None, {"free_kib": 1 << 50}, JobExit.NO_ROOM, Blocked, "are free in the data folder"),
        (None, {"temporary_kib": 1 << 50}, JobExit.NO_TEMPORARY_ROOM, NodeFault, "on node n7"),
    ],
)  # fmt: skip
def test_a_problem_found_by_the_preflight_stops_the_job_before_the_container(
    attempt: Attempt, change: object, settings: dict[str, object], code: JobExit, kind: type[Exception], words: str
) -> None:
    attempt.prepare("write", **settings)  # type: ignore[arg-type]
    if change is not None:
        change(attempt)  # type: ignore[operator]
    assert attempt.go() == code, attempt.output
    assert not (attempt.folder / "container.out").exists()  # nothing was spent
    with pytest.raises(kind, match=words) as caught:
        verdict(attempt.status(code), attempt.folder, "r", 1)
    assert type(caught.value) is kind


# -- conversion -----------------------------------------------------------------------------------------------------


def _input(attempt: Attempt, number: int) -> np.ndarray:
    pixels = np.arange(2 * 40 * 30, dtype=np.uint16).reshape(1, 2, 1, 40, 30)
    write_image(
        attempt.run / f"in/image-{number}.ome.zarr", pixels, name="n", pixel_size={"x": PhysicalSize(value=0.5)}
    )
    return pixels


def test_images_are_converted_in_the_job_and_the_copies_removed(attempt: Attempt) -> None:
    _input(attempt, 4)
    _input(attempt, 12)
    tiff = attempt_folder.folders(str(attempt.folder), tiff=True).input
    attempt.prepare("list", tiff, converter_prefix=["env"])
    assert attempt.go() == JobExit.DONE, attempt.output
    assert (attempt.folder / "container.out").read_text().split() == ["image-12.tif", "image-4.tif"]
    assert not list(attempt.folder.parent.glob("tiff*"))
    assert not (attempt.folder / "progress").exists(), "it was the conversion's, and what follows begins at nothing"


def test_an_image_that_cannot_be_converted_fails_before_the_container(attempt: Attempt) -> None:
    _input(attempt, 4)
    (attempt.run / "in/image-4.ome.zarr/.zattrs").write_text("{}")
    attempt.prepare("write", converter_prefix=["env"])
    code = attempt.go()
    assert code == JobExit.CONVERSION
    assert not (attempt.folder / "container.out").exists()
    assert not list(attempt.folder.parent.glob("tiff*"))
    with pytest.raises(Permanent, match="conversion to TIFF ended with exit code 1") as caught:
        verdict(attempt.status(code), attempt.folder, "r", 1)
    assert "image-4: no multiscales" in caught.value.detail


def test_folders_are_named_by_format() -> None:
    assert attempt_folder.folders("/d/run/attempt-2", tiff=False).input == "/d/run/in"
    folders = attempt_folder.folders("/d/run/attempt-2", tiff=True)
    assert (folders.input, folders.output) == ("/d/run/tiff-2", "/d/run/attempt-2/out")


@pytest.mark.parametrize(
    "settings",
    [{"image_path": "a\nimage=/etc/shadow"}, {"converter_image": "x\0y"}, {"remote_attempt": "relative"},
     {"prefix": []}, {"prefix": ["env", "A=b"]},
     {"arguments": ["a\0b"]}],
)  # fmt: skip
def test_values_that_cannot_be_written_to_the_attempt_folder_are_refused(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    usual: dict[str, object] = {
        "remote_attempt": "/d/r/attempt-1", "prefix": ["true"], "converter_prefix": None, "arguments": [],
        "image_path": "/i.sif", "data_folder": "/d",
    }  # fmt: skip
    with pytest.raises(Permanent):
        attempt_folder.prepare_attempt(tmp_path, **{**usual, **settings})  # type: ignore[arg-type]


def test_every_run_gets_the_same_script(tmp_path: Path) -> None:
    for name, words in (("a", ["x"]), ("b", ["$(id)", "y"])):
        attempt_folder.prepare_attempt(
            tmp_path / name, remote_attempt=f"/d/{name}", prefix=["true"], converter_prefix=None, arguments=words,
            image_path=f"/{name}.sif", data_folder="/d",
        )  # fmt: skip
    assert (tmp_path / "a/job.sh").read_bytes() == (tmp_path / "b/job.sh").read_bytes()


def test_percentages_that_a_program_prints_become_its_progress(attempt: Attempt) -> None:
    attempt.prepare("percents")
    assert attempt.go() == 0
    assert (attempt.folder / "out/seen").read_text() == "42.5\n"
