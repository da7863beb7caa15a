"""A deployment whose every part can fail: a log, a cluster in a folder with a SLURM with configurable faults, and
supervisors in processes of their own that can be killed at any boundary.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tifffile
from sqlalchemy.exc import OperationalError

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.runtime import Reference
from biomeroworker.cluster.transport.channel import Channel
from biomeroworker.config import Settings
from biomeroworker.deployment.sources import Sources
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.engine.timing import Timing
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from tests.fakes.transport import FakeTransport

#: The container: records that it ran, then writes one result for each image.
CONTAINER = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --infolder) in=$2 ;; --outfolder) out=$2 ;; --sleep=*) sleep=${1#*=} ;; --fail=*) fail=${1#*=} ;; esac
    shift
done
echo "$out" >>"$HOME/containers"
sleep "$sleep"
for key in $fail; do [ ! -e "$in/$key.ome.zarr" ] || { echo "failing on $key" >&2; exit 3; }; done
for image in "$in"/image-*; do name=${image##*/}; echo hello >"$out/${name%.ome.zarr}_text.txt"; done
"""

DESCRIPTOR = {
    "schema-version": "biomero-0.1", "name": "obedient", "description": "sleeps and writes",
    "container-image": {"image": "lab/obedient:v1.0.0", "type": "oci"}, "command-line": "/run.sh", "outputs": [],
    "inputs": [
        {"id": "images", "type": "image", "name": "images", "description": "", "set-by-server": True,
         "optional": False, "value-key": "@ID", "command-line-flag": "--@id", "format": ["zarr"],
         "sub-type": ["grayscale"]},
        {"id": "sleep", "type": "float", "name": "sleep", "description": "sleep", "default-value": 0.0,
         "optional": True, "set-by-server": False, "value-key": "@ID", "command-line-flag": "--@id"},
        {"id": "fail", "type": "string", "name": "fail", "description": "keys to fail on", "default-value": "",
         "optional": True, "set-by-server": False, "value-key": "@ID", "command-line-flag": "--@id"},
    ],
}  # fmt: skip

#: How much slower tests run on this machine than on an idle one.
PACE = float(os.environ.get("TEST_PACE", "1"))
#: Factor on all deadlines, which are those of an idle machine. Only failing tests wait that long.
PATIENCE = 4.0

#: Not in the default selection: ``pytest -m "slow or not slow" tests/resilience`` runs all tests.
SLOW = pytest.mark.slow

TERMINAL_EVENTS = ("WorkflowCompleted", "WorkflowFailed", "RunCancelled")


class Bare:
    """Containers that are programs of this machine."""

    program, suffix = "sh", ".sif"

    def run_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        return ["sh", image]

    exec_prefix = run_prefix

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        raise AssertionError("nothing is pulled here")

    def outdated(self, record: Mapping[str, Any]) -> str:
        return ""


class Link(FakeTransport):
    """The connection to the cluster. No call waits longer than ``patience`` seconds.

    The file ``.link`` in the home folder selects a fault: ``away`` refuses connections, ``hole`` never answers.
    """

    patience = 3.0 * PACE

    def _transfer(self, argv: Sequence[str], timeout: float) -> contextlib.AbstractContextManager[Channel]:
        return super()._transfer(argv, min(timeout, self.patience))

    def _note(self, argv: Sequence[str]) -> None:
        with contextlib.suppress(FileNotFoundError):
            state = (self.home / ".link").read_text()
            if state == "hole":
                time.sleep(self.patience)
            raise TimeoutError(f"the link is {state}")
        super()._note(argv)


#: The engine's timing, fast enough that a run whose delays add up to minutes takes a second.
FAST = Timing(
    first_retry_seconds=0.2,
    longest_retry_seconds=0.6,
    first_poll_seconds=0.1,
    sync_interval_seconds=0.1,
    lease_seconds=1.0 * PACE,
    cancel_retry_interval_seconds=0.3,
    stop_grace_seconds=1.0 * PACE,
    unknown_deadline_seconds=1.5 * PACE,
    doubt_seconds=1.0,
)


@dataclass
class World:
    """One deployment below ``folder``, whose log is at ``url``."""

    folder: Path
    url: str
    timing: Timing = field(default=FAST, kw_only=True)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def slurm(self) -> Path:
        return self.home / ".slurm"

    def make(self) -> World:
        """Create the files of the deployment."""
        for name in ("obedient", "home/images/obedient", "home/.slurm/faults"):
            (self.folder / name).mkdir(parents=True)
        self.install_slurm()
        (self.home / "images/obedient/obedient_v1.0.0.sif").write_text(CONTAINER)
        (self.folder / "obedient/descriptor.json").write_text(json.dumps(DESCRIPTOR))
        (self.folder / "config.ini").write_text(
            f"[SSH]\nhost = nowhere\n[SLURM]\nslurm_data_path = data\nslurm_images_path = images\n"
            f"slurm_converters_path = converters\npoll_seconds = 1\n[ANALYTICS]\nsqlalchemy_url = {self.url}\n"
            f"[WORKER]\nwork_folder = {self.folder}/work\n[WORKFLOWS]\nobedient = obedient\n"
            f"obedient_repo = {self.folder}/obedient\nobedient_job = jobs/obedient.sh\n"
        )
        with self.log():
            pass
        return self

    def install_slurm(self) -> None:
        """Install the fake programs of SLURM."""
        (self.folder / "bin").mkdir()
        program = Path(__file__).with_name("fake_slurm.py")
        for name in ("sbatch", "squeue", "sacct", "scontrol", "scancel"):
            file = self.folder / "bin" / name
            file.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {program} {name} "$@"\n')
            file.chmod(0o755)

    @property
    def settings(self) -> Settings:
        return Settings.load(self.folder / "config.ini", environ={})

    def log(self) -> RunLog:
        return RunLog.open(self.url)

    def cluster(self) -> Cluster:
        link = Link(self.home, path=[self.folder / "bin"])
        return Cluster(link, Bare(), data="data", images="images", converters="converters")

    def supervisor(self, log: RunLog, *, workers: int = 2) -> Supervisor:
        executor = RunExecutor(log, {"": self.cluster()}, Sources(), self.settings, timing=self.timing)
        return Supervisor(log, executor, poll_seconds=0.3, workers=workers)

    def set_timing(self, **seconds: float) -> None:
        """Change the timing of the supervisors that start from now on."""
        self.timing = dataclasses.replace(self.timing, **seconds)

    # -- what happens -------------------------------------------------------------------------------------------------

    def accept(self, sleep: float = 0.0, *, images: int = 1, batch: int = 0, fail: str = "") -> UUID:
        """Accept a run on this many images, in chunks of ``batch``; the container fails on the keys ``fail``."""
        folder = self.folder / f"images-{os.urandom(4).hex()}"
        folder.mkdir()
        for number in range(images):
            tifffile.imwrite(
                folder / (f"i{number + 1:02d}.tif" if images > 1 else "one.tif"), np.zeros((8, 8), "uint16")
            )
        request = RunRequest(
            workflow="obedient", parameters={"sleep": sleep, "fail": fail}, source="folder", batch_size=batch,
            inputs={"folder": str(folder)}, outputs={"folder": f"{folder}-results"},
        )  # fmt: skip
        with self.log() as log:
            return log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)

    def loses(self, *tasks: int) -> None:
        """Let the node of these tasks fail when they start; a task that is named twice is lost twice."""
        (self.slurm / "lose").write_text("".join(f"{task}\n" for task in tasks))

    def set_faults(self, program: str, *words: str) -> None:
        """Let the next calls of a program of SLURM fail in these ways, one after the other."""
        (self.slurm / "faults" / program).write_text("".join(f"{word}\n" for word in words))

    def clear_faults(self) -> None:
        """Remove all faults."""
        for file in (self.slurm / "faults").iterdir():
            file.unlink()
        (self.home / ".link").unlink(missing_ok=True)

    def link(self, state: str) -> None:
        """Break the connection to the cluster: ``away`` or ``hole``."""
        (self.home / ".link").write_text(state)

    def await_run(self, run_id: UUID, seconds: float = 40, *states: RunState) -> WorkflowRun:
        """Wait until a run has ended, or is in one of these states."""
        end = time.monotonic() + seconds * PATIENCE
        with self.log() as log:
            while True:
                try:
                    run = log.run(run_id)
                except OperationalError:  # the database is down, as some tests need it
                    time.sleep(0.2)
                    assert time.monotonic() < end
                    continue
                if run.state in states or run.state.is_terminal:
                    return run
                assert not run.paused, run.pause_reason
                assert time.monotonic() < end, f"stuck at {run.state}: {[one.message for one in run.faults]}"
                time.sleep(0.05)

    def until(self, condition: Callable[[], bool], seconds: float = 30, *, must: bool = True) -> None:
        """Wait until the condition is true."""
        end = time.monotonic() + (seconds * PATIENCE if must else seconds)
        while not condition():
            if time.monotonic() > end:
                assert not must, "the condition never became true"
                return
            time.sleep(0.05)

    def faults(self, run_id: UUID) -> list[str]:
        """The consecutive faults of a run in its current state."""
        with self.log() as log:
            run = log.run(run_id)
            return [fault.message for fault in run.consecutive_faults(run.state)]

    def cancels(self, run_id: UUID) -> None:
        """What an admin's ``scancel`` does to the jobs of a run."""
        names = {job["name"] for job in self.jobs() if str(run_id) in job["name"]}
        program = Path(__file__).with_name("fake_slurm.py")
        environment = {**os.environ, "HOME": str(self.home)}
        words = [sys.executable, "-IS", program, "scancel", *(f"--name={name}" for name in names)]
        subprocess.run(words, env=environment, check=True, timeout=30)

    def start_held_job(self, run_id: UUID) -> None:
        """Start the held job of a run that has one, as ``scontrol release`` does."""
        (job,) = [job for job in self.jobs() if str(run_id) in job["name"]]
        file = self.slurm / f"job-{job['number']}.json"
        file.write_text(json.dumps({**job, "held": False}))
        self._start(job)

    def requeue(self, job: dict[str, Any]) -> None:
        """What ``scontrol requeue`` does: the job ends here and starts again under the same number."""
        file = self.slurm / f"job-{job['number']}.json"
        file.write_text(json.dumps({**job, "state": "REQUEUED"}))
        os.killpg(job["pid"], signal.SIGKILL)
        time.sleep(0.3)
        self._start(job)

    def _start(self, job: dict[str, Any]) -> None:
        program = Path(__file__).with_name("fake_slurm.py")
        environment = {**os.environ, "HOME": str(self.home)}
        subprocess.Popen([sys.executable, "-IS", program, "_run", str(job["number"])], env=environment)

    # -- what must be true --------------------------------------------------------------------------------------------

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs that the scheduler has accepted."""
        return [json.loads(file.read_text()) for file in sorted(self.slurm.glob("job-*.json"))]

    def live(self, run_id: UUID) -> list[str]:
        return [
            job["name"] for job in self.jobs() if str(run_id) in job["name"] and job["state"] in ("PENDING", "RUNNING")
        ]

    def check(self, run_id: UUID, *expected: RunState) -> WorkflowRun:
        """Assert the promise for a run that has ended."""
        with self.log() as log:
            run = log.run(run_id)
            names = [event.name for event in log.events(run_id)]
        story = f"{run.report} {names} {[fault.message for fault in run.faults]}"
        assert run.state in (expected or (RunState.DONE,)), story
        assert sum(name in TERMINAL_EVENTS for name in names) == 1, story
        submitted = Counter(
            name for name, _ in {(job["name"], job["id"]) for job in self.jobs()} if str(run_id) in name
        )
        assert max(submitted.values(), default=0) <= 1, f"an attempt was submitted twice: {submitted} {story}"
        containers = self.home / "containers"
        ran = Counter(
            line for line in (containers.read_text().splitlines() if containers.exists() else []) if str(run_id) in line
        )
        assert max(ran.values(), default=0) <= 1, f"two jobs of one attempt ran: {ran} {story}"
        self._check_results(run, story)
        end = time.monotonic() + 10 * PATIENCE
        while self.live(run_id):
            assert time.monotonic() < end, f"jobs are left behind: {self.live(run_id)} {story}"
            time.sleep(0.1)
        return run

    @staticmethod
    def _check_results(run: WorkflowRun, story: str) -> None:
        assert run.request is not None
        results = Path(run.request["outputs"]["folder"])
        found = sorted(path.name for path in results.iterdir()) if results.exists() else []
        if run.state is RunState.DONE:
            page = f"run-report-{str(run.id)[:8]}.html"
            if reference := run.outcomes[RunState.IMPORTING].get("report"):
                assert (Path(reference).name, page in found) == (page, True), story
            found = [name for name in found if name != page]
            names = {path.stem for path in Path(run.request["inputs"]["folder"]).iterdir()}
            names &= set(run.request["only"].values()) or names
            names -= {name for failed in run.report.get("failed", ()) for name in failed["inputs"].values()}
            assert found == sorted([*(f"{name}_text.txt" for name in names), "provenance.json"]), story
            assert all((results / f"{name}_text.txt").read_text() == "hello\n" for name in names)
            assert json.loads((results / "provenance.json").read_text())["attempt"] == run.attempt
        elif run.state is RunState.FAILED:
            assert found == [], story
