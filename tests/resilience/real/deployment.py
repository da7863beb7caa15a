"""The same deployment on a real cluster: sshd, SLURM with accounting, PostgreSQL, and an admin who causes faults.

The container is a program of the nodes (`world.Bare`), because what is proved here is the scheduler's part; whole runs
with Apptainer are `tests/integration`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tifffile

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport.openssh import OpenSshTransport
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.engine.timing import Timing
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from sandbox.parts.slurm import Slurmctld, Slurmd1, Slurmd2, Slurmdbd, slurm_conf
from sandbox.processes import Process
from sandbox.root import Root
from tests.resilience.world import CONTAINER as PLAIN
from tests.resilience.world import DESCRIPTOR, FAST, TERMINAL_EVENTS, Bare, World

#: Also records the restart count of its job, and some durations have a special effect.
CONTAINER = PLAIN.replace('echo "$out"', 'echo "$out ${SLURM_RESTART_COUNT:-0}"').replace(
    'sleep "$sleep"\n',
    """case $sleep in
    666*) exec tail /dev/zero ;;
    555*) end=$(($(date +%s) + 4)); while [ "$(date +%s)" -lt $end ]; do :; done ;;
    777*) dd if=/dev/zero of="$out/big" bs=1M count=4000 || exit 5 ;;
    *) sleep "$sleep" ;;
esac
""",
)
#: Those durations.
KEEPS_A_CORE_BUSY, EATS_MEMORY, FILLS_THE_DISK = 555.0, 666.0, 777.0


@dataclass
class Admin:
    """The administrator of the cluster, as root: causes the faults that clusters have."""

    sandbox: Any

    @property
    def root(self) -> Root:
        return Root(self.sandbox.path)

    @property
    def nodes(self) -> list[str]:
        return str(self.sandbox.env["CLUSTER_NODES"]).split(",")

    def run(self, *argv: str, user: str | None = None) -> str:
        """Run one of SLURM's commands; its output."""
        environment = {**os.environ, "SLURM_CONF": str(slurm_conf(self.root))}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, user=user, cwd="/")
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def stop(self, kind: type[Slurmctld | Slurmdbd | Slurmd1]) -> None:
        """End a daemon as a service manager does."""
        if process := kind(self.root).process():
            process.stop(20)

    def start(self, kind: type[Slurmctld | Slurmdbd | Slurmd1]) -> None:
        """Start a daemon with the configuration as it stands."""
        part = kind(self.root)
        part.prepare = lambda: None  # type: ignore[method-assign]
        part.start()

    def configure(self, **lines: str) -> None:
        """Change lines of slurm.conf, for all daemons; an empty value takes a line away."""
        file = slurm_conf(self.root)
        others = [line for line in file.read_text().splitlines() if line.partition("=")[0] not in lines]
        file.write_text("\n".join([f"{name}={value}" for name, value in lines.items() if value] + others) + "\n")
        self.stop(Slurmctld)
        self.start(Slurmctld)
        self.run("scontrol", "reconfigure")

    def lose(self, node: str, *, with_its_jobs: bool) -> None:
        """Let a node vanish: with what runs on it, or only from the network; and the controller notice."""
        process = self._slurmd(node)(self.root).process()
        assert process
        process.send(signal.SIGKILL)
        if with_its_jobs:
            for one in self._jobs_on(node):
                one.send(signal.SIGKILL)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")

    def bring_back(self, node: str) -> None:
        """The node is repaired."""
        self.start(self._slurmd(node))  # the controller takes back a node that registers (ReturnToService=2)

    def _slurmd(self, node: str) -> type[Slurmd1]:
        return (Slurmd1, Slurmd2)[self.nodes.index(node)]

    @staticmethod
    def _jobs_on(node: str) -> list[Process]:
        """The processes of a node's jobs; first the daemons that would report their end."""
        tasks: list[int] = []
        for file in Path("/sys/fs/cgroup/freezer").glob(f"slurm_{node}/**/cgroup.procs"):
            tasks += map(int, file.read_text().split())
        parents = []
        for task in tasks:
            with contextlib.suppress(OSError):
                parents.append(int(Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[1]))
        steps = [pid for pid in parents if "slurmstepd" in _command(pid)]
        return [found for pid in [*dict.fromkeys(steps), *tasks] if (found := Process.of(pid))]


@dataclass
class RealWorld(World):
    """One deployment on a real cluster, in a folder of its own there."""

    admin: Admin
    #: Accounting lags by seconds here, and a machine that does all of this at once may stand still for one.
    timing: Timing = field(default=replace(FAST, unknown_deadline_seconds=12, lease_seconds=15.0), kw_only=True)
    #: Lines of [SLURM], as ``sbatch_<flag> = value``.
    options: str = ""
    #: The SSH configuration to use in place of the sandbox's own.
    ssh_config: Path | None = None
    #: Where the runs lie, when that is not in the world's own folder.
    data: str = ""
    #: Where the worker keeps what it works on, when that is not there either.
    work: str = ""
    #: The log's URL as supervisors are given it; the test itself looks past whatever is in between.
    database: str = ""
    _clusters: list[Cluster] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return Path(self.admin.sandbox.env["CLUSTER_HOME"])

    @property
    def own(self) -> Path:
        """This world's part of the cluster's home."""
        return self.home / self.folder.name

    def make(self) -> RealWorld:
        """Lay everything out."""
        (self.folder / "obedient").mkdir(parents=True)
        (self.folder / "obedient/descriptor.json").write_text(json.dumps(DESCRIPTOR))
        images = self.own / "images/obedient"
        images.mkdir(parents=True)
        (images / "obedient_v1.0.0.sif").write_text(CONTAINER)
        account = self.home.stat()
        for folder, _, files in os.walk(self.own):
            for path in (Path(folder), *(Path(folder) / name for name in files)):
                os.chown(path, account.st_uid, account.st_gid)
        (self.folder / "config.ini").write_text(
            f"[SSH]\nhost = hpc\n[SLURM]\nslurm_data_path = {self.data or f'{self.own.name}/data'}\n"
            f"slurm_images_path = {self.own.name}/images\nslurm_converters_path = {self.own.name}/converters\n"
            f"poll_seconds = 1\nsbatch_cpus-per-task = 1\n{self._options()}\n"
            f"[ANALYTICS]\nsqlalchemy_url = {self.url}\n[WORKER]\nwork_folder = {self.work or self.folder}/work\n"
            "[WORKFLOWS]\nobedient = obedient\nobedient_job = jobs/obedient.sh\n"
            f"obedient_repo = {self.folder}/obedient\n"
        )
        with self.log():
            pass
        return self

    def _options(self) -> str:
        given = {line.partition("=")[0].strip() for line in self.options.splitlines()}
        usual = {"sbatch_mem": "64M", "sbatch_time": "5"}
        return "\n".join([self.options, *(f"{key} = {value}" for key, value in usual.items() if key not in given)])

    def transport(self) -> OpenSshTransport:
        """A connection of one supervisor's own."""
        runtime = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))  # a socket's name may not be long
        config = self.ssh_config or Path(self.admin.sandbox.env["SSH_CONFIG"])
        return OpenSshTransport("hpc", config_file=config, runtime_dir=runtime, alive_seconds=2)

    def cluster(self) -> Cluster:
        settings = self.settings.default_cluster.slurm
        self._clusters.append(Cluster(
            self.transport(), Bare(),
            data=settings.slurm_data_path, images=settings.slurm_images_path, converters=settings.slurm_converters_path,
        ))  # fmt: skip
        return self._clusters[-1]

    @contextlib.contextmanager
    def supervised(self) -> Iterator[Supervisor]:
        """A supervisor for a while, in a thread."""
        with RunLog.open(self.database or self.url) as log:
            supervisor = self.supervisor(log)
            thread = threading.Thread(target=supervisor.serve, name="supervisor")
            thread.start()
            try:
                yield supervisor
            finally:
                supervisor.stop()
                thread.join(60)
                for cluster in self._clusters:
                    cluster.close()
                self._clusters.clear()
                assert not thread.is_alive(), "the supervisor does not end"

    def accept_large(self, size: int = 3_000_000, sleep: float = 0.0) -> UUID:
        """Hand in a run whose image takes so many bytes on the wire."""
        images = self.folder / f"images-{os.urandom(4).hex()}"
        images.mkdir()
        noise = np.frombuffer(os.urandom(size - size % 2048), "uint16").reshape(-1, 1024)
        tifffile.imwrite(images / "one.tif", noise)
        request = RunRequest(
            workflow="obedient", parameters={"sleep": sleep}, source="folder",
            inputs={"folder": str(images)}, outputs={"folder": f"{images}-results"},
        )  # fmt: skip
        with self.log() as log:
            return log.accept(request.model_dump(mode="json"), name="w", description="d", user=1, group=1)

    def job_id(self, run_id: object) -> int:
        """The number of a run's newest job."""
        with self.log() as log:
            found = log.run(run_id).job_ids  # type: ignore[arg-type]
        return int(found[-1])

    def starts(self, run_id: object) -> list[str]:
        """Each start of a container of a run: its attempt's results folder and its job's restart count."""
        file = self.home / "containers"
        return [line for line in (file.read_text().splitlines() if file.exists() else []) if str(run_id) in line]

    def in_queue(self, run_id: object, states: str = "all") -> list[str]:
        """The numbers of a run's jobs that the controller remembers, in these states."""
        rows = self.admin.run("squeue", "-h", "-t", states, "-o", "%i %j").splitlines()
        return [row.split()[0] for row in rows if str(run_id) in row]

    def live(self, run_id: object) -> list[str]:
        return self.in_queue(run_id, "pending,running,completing")

    def check(self, run_id: Any, *expected: RunState) -> WorkflowRun:
        """The promise, asserted of a run that has ended."""
        with self.log() as log:
            run = log.run(run_id)
            events = list(log.events(run_id))
        story = f"{run.report} {[event.name for event in events]} {[fault.message for fault in run.faults]}"
        assert run.state in (expected or (RunState.DONE,)), story
        terminal = [event.name for event in events if event.name in TERMINAL_EVENTS]
        assert len(terminal) == 1, story
        submitted = Counter(event.attributes["attempt"] for event in events if event.name == "JobSubmitted")
        assert all(count == 1 for count in submitted.values()), story
        for name, ids in self._jobs_by_name(run).items():
            assert len(ids) <= 1, f"{name} was submitted as {ids}: {story}"
        again = [line for line, count in Counter(self.starts(run_id)).items() if count > 1]
        assert not again, f"one start of a job ran twice: {again} {story}"
        self._check_results(run, story)
        self.until(lambda: not self.live(run_id))
        return run

    def _jobs_by_name(self, run: WorkflowRun) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for attempt in run.attempts.values():
            rows = self.admin.run("squeue", "-h", "-t", "all", f"--name={attempt.name}", "-o", "%F")
            with contextlib.suppress(AssertionError):  # there is no accounting
                rows += self.admin.run(
                    "sacct", "-n", "-X", "-S", "now-1days", f"--name={attempt.name}", "-o", "JobID%-20"
                )
            found[attempt.name] = {word.partition("_")[0] for word in rows.split()}
        return found

    def remove(self) -> None:
        """Take away what it made on the cluster."""
        shutil.rmtree(self.own, ignore_errors=True)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def forgotten_by_the_queue(world: RealWorld, run_id: object) -> None:
    """Wait until the controller remembers nothing of a run's jobs."""
    end = time.monotonic() + 120
    while world.in_queue(run_id):
        assert time.monotonic() < end
        time.sleep(0.5)
