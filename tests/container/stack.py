"""The whole deployment in containers: docker-compose.yml as an admin starts it, with the stand-in in OMERO's place.

One project for all scenarios: a sandbox master, Postgres, the SLURM container, two nodes, a registry for the workflow's
image, and a machine with the command `omero`. Services, variables, secrets and mounts are those of docker-compose.yml.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.workflow.rootfs import cache_folder
from tests.container import bases, compose_files, images, workload
from tests.container.engine import DOCKER, Engine, EngineError

FILES = ("docker-compose.yml", "deploy/docker-compose.second-node.yml", "tests/container/scenarios.yml")
NODES = {"biomeroworker": "Processor-0", "biomeroworker-2": "Processor-1"}
#: What starts first. OMERO's database, OMERO.web and the worker for other servers stay away: the stand-in needs none.
FIRST = ("omeroserver", "database-biomero", "localslurm", "registry", "client")
ACCOUNT = "omero-server"
HOME = "/opt/omero/server"
UP_SECONDS = 180
RUN_SECONDS = 300
TERMINAL = ("done", "failed", "cancelled")


def service_image(engine: Engine, context: Path, name: str, dockerfile: str, base: str) -> str:
    """Build one of the images of this project on a local base; its tag."""
    tag = f"{bases.PREFIX}/{name}:current"
    argv = ["build", "-q", "-t", tag, "-f", context / dockerfile, "--build-arg", f"BASE={base}"]
    with tempfile.TemporaryDirectory() as folder:
        engine.run(*argv, *images.secrets(Path(folder)), context, timeout=images.BUILD_SECONDS)
    return tag


def cluster_image(engine: Engine, context: Path) -> str:
    """The SLURM container, with the packages of Apptainer that `tools/get_apptainer.py` has in its cache, if any."""
    fetched = cache_folder() / "apptainer"
    if (fetched / "SHA256SUMS").exists():
        shutil.copytree(fetched, context / "container/localslurm/packages", dirs_exist_ok=True)
    return service_image(engine, context, "localslurm", "container/localslurm/Dockerfile", bases.debian(engine))


def make_project(folder: Path) -> Path:
    """Copy what Compose and an admin use into an empty folder."""
    compose_files.make_project(folder)
    shutil.copytree(images.CHECKOUT / "scripts", folder / "scripts")
    (folder / FILES[-1]).parent.mkdir(parents=True)
    shutil.copy(images.CHECKOUT / FILES[-1], folder / FILES[-1])
    return folder


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until a condition is true; its value. A container that does not answer does not fulfil it."""
    deadline = time.monotonic() + seconds
    problem = ""
    while True:
        try:
            if found := condition():
                return found
        except EngineError as error:
            problem = f": {error}"
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s{problem}"
        time.sleep(0.5)


class Stack:
    """A running project."""

    def __init__(self, engine: Engine, project: Path, tags: Mapping[str, str]) -> None:
        self.engine, self.project = engine, project
        self.name = f"bwtest{os.getpid()}"
        self.subnet = f"172.30.{os.getpid() % 250}"
        self.ssh = project / "ssh"
        self.tags = dict(tags)
        self._dataset = 0

    # -- the project ---------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Make what an admin makes (keys, secrets, .env, the configuration), then start everything."""
        self.ssh.mkdir(mode=0o700)
        key = self.ssh / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", key], check=True, timeout=30)
        (self.ssh / "config").write_text("Host localslurm\n  User hpcuser\n  IdentityFile ~/.ssh/id_ed25519\n")
        (self.project / "slurm-config-override.ini").write_text(workload.CONFIGURATION)
        workload.write_descriptor(self.project / "workflows")
        values = {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": ":".join(FILES),
            "COMPOSE_PROFILES": "localslurm",
            "SECRETS_FOLDER": "./secrets",
            "SSH_FOLDER": str(self.ssh),
            "LOCALSLURM_PUBLIC_KEY": str(key.with_suffix(".pub")),
            "SCENARIO_SUBNET": f"{self.subnet}.0/24",
            **self.tags,
        }
        (self.project / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        subprocess.run(["deploy/make-secrets.sh"], cwd=self.project, check=True, timeout=30, capture_output=True)
        self.compose("up", "-d", "--no-deps", *FIRST, timeout=UP_SECONDS)
        for service in ("localslurm", "omeroserver", "database-biomero"):
            self.await_health(service)
        found = re.search(r"host key, for known_hosts: (.*)", self.logs("localslurm"))
        assert found, self.logs("localslurm")
        (self.ssh / "known_hosts").write_text(found[1] + "\n")
        self.push_image()
        self.compose("up", "-d", "--no-deps", *NODES, timeout=UP_SECONDS)
        for node in NODES:
            self.await_registered(node)
        self.biomeroworker("init", timeout=UP_SECONDS)
        self.prepare_omero()

    def down(self) -> None:
        """Remove everything that was made."""
        self.compose("down", "--volumes", "--remove-orphans", "-t", "5", timeout=UP_SECONDS)

    def compose(self, *argv: str, **options: Any) -> str:
        return self.engine.compose(*argv, folder=self.project, **options)

    def container(self, service: str) -> str:
        """The container of a service, as docker-compose 1.29 names it."""
        return f"{self.name}_{service}_1"

    def logs(self, service: str) -> str:
        return self.engine.logs(self.container(service))

    def execute(self, service: str, *argv: str, **options: Any) -> str:
        return self.engine.execute(self.container(service), *argv, **options)

    def await_health(self, service: str, seconds: float = UP_SECONDS) -> None:
        """Wait until the service's own health check succeeds."""

        def healthy() -> bool:
            state = self.engine.inspect(self.container(service))["State"]
            assert state["Running"], f"{service} has stopped:\n{self.logs(service)[-3000:]}"
            return bool(state["Health"]["Status"] == "healthy")

        until(healthy, seconds, f"{service} is healthy")

    def push_image(self) -> None:
        """Put the workflow's image into the registry."""
        registry = self.container("registry")
        with tempfile.TemporaryDirectory() as folder:
            layout = workload.write_layout(Path(folder))
            self.engine.run("cp", layout, f"{registry}:/layout")
        source, target = (
            f"oci:/layout:{workload.VERSION}",
            f"docker://127.0.0.1:5000/lab/{workload.NAME}:{workload.VERSION}",
        )
        copy = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", source, target]
        until(lambda: self.engine.execute(registry, *copy) or True, 30, "the registry takes the image")

    # -- faults --------------------------------------------------------------------------------------------------------

    def kill(self, service: str) -> None:
        """SIGKILL for all of its processes at once."""
        self.engine.run("kill", self.container(service))

    def start(self, service: str) -> None:
        self.engine.run("start", self.container(service))

    def move(self, service: str, host: int) -> str:
        """Give a service that does not run another address of the network; returns it."""
        network, address = f"{self.name}_default", f"{self.subnet}.{host}"
        self.engine.run("network", "disconnect", network, self.container(service))
        self.engine.run(
            "network", "connect", "--ip", address, "--alias", service, network, self.container(service)
        )  # fmt: skip
        return address

    # -- the nodes -----------------------------------------------------------------------------------------------------

    def since(self, service: str, moment: float) -> str:
        """The part of a service's log since a time."""
        done = self.engine.attempt("logs", "--since", f"{moment:.3f}", self.container(service))
        return done.output + done.errors

    def await_registered(self, node: str, moment: float = 0, seconds: float = 120) -> None:
        """Wait until a node's Processor has registered with Blitz since a time."""
        until(
            lambda: "Registering processor" in self.since(node, moment),
            seconds,
            f"{NODES[node]} of {node} is registered",
        )

    def await_in_grid(self, node: str, seconds: float = 120) -> None:
        """Wait until the node's health check succeeds: the node is registered at the master, and its Processor runs."""
        container = self.container(node)
        until(
            lambda: self.engine.run("exec", container, "/startup/healthcheck.sh") == "",
            seconds,
            f"{node} is in the grid",
        )

    def biomeroworker(self, *argv: str, node: str = "biomeroworker", **options: Any) -> str:
        """Run the command in a node, with its account and its run log."""
        script = 'SQLALCHEMY_URL=$(cat /run/secrets/biomero_db_url) exec biomeroworker "$@"'
        command = ["env", f"HOME={HOME}", f"PATH=/opt/biomeroworker/bin:{os.defpath}", "sh", "-c", script, "sh", *argv]
        return self.engine.run("exec", "-u", ACCOUNT, self.container(node), *command, **options)

    # -- OMERO ---------------------------------------------------------------------------------------------------------

    def omero(self, *argv: str, timeout: float = RUN_SECONDS) -> str:
        """The unmodified command `omero`."""
        done = self.engine.attempt("exec", self.container("client"), "omero", *argv, timeout=timeout)
        assert done.status == 0, f"omero {' '.join(argv)} ended with {done.status}\n{done.output}{done.errors}"
        return done.output + done.errors

    def gateway(self, program: str) -> str:
        """Run a program in the client's machine with ``connection``, a BlitzGateway of the user; what it prints."""
        head = (
            "import sys, Ice, omero.clients, omero.model, numpy as np\n"
            "from omero.gateway import BlitzGateway\n"
            "from omero.util.sessions import SessionsStore\n"
            "store = SessionsStore()\nhost, user, key, port = store.get_current()\n"
            "client = omero.client(host, int(port))\nclient.joinSession(key).detachOnDestroy()\n"
            "connection = BlitzGateway(client_obj=client)\n"
        )
        argv = ["exec", "-i", self.container("client"), "python", "-W", "ignore", "-"]
        return self.engine.run(*argv, given=head + program + "\nclient.closeSession()\n", timeout=RUN_SECONDS)

    def login(self) -> None:
        secret = {"OMERO_PASSWORD": (self.project / "secrets/omero_root_password").read_text().strip()}
        argv = ["exec", "-e", "OMERO_PASSWORD", self.container("client")]
        self.engine.run(*argv, "omero", "login", "-s", "omeroserver", "-u", "root", "-t", "3600", environment=secret)

    def prepare_omero(self) -> None:
        """The official script, and two images in a dataset."""
        self.login()
        folder = "/tmp/upload/BIOMERO"
        self.execute("client", "mkdir", "-p", folder)
        script = self.project / "scripts/workflows/SLURM_Run_Workflow.py"
        self.engine.run("cp", script, f"{self.container('client')}:{folder}/")
        upload = ["omero", "script", "upload", "BIOMERO/SLURM_Run_Workflow.py", "--official"]
        printed = self.engine.run("exec", "-w", "/tmp/upload", self.container("client"), *upload)
        found = re.search(r"OriginalFile:(\d+)", printed)
        assert found, printed
        self.script = int(found[1])
        self.dataset = int(
            self.gateway(
                "dataset = omero.model.DatasetI()\ndataset.name = omero.rtypes.rstring('inputs')\n"
                "dataset = connection.getUpdateService().saveAndReturnObject(dataset)\n"
                "parent = connection.getObject('Dataset', dataset.id.val)\n"
                "for n in range(2):\n"
                "    connection.createImageFromNumpySeq(iter([np.full((16, 16), n + 1, 'uint16')]), f'cells {n}',"
                " 1, 1, 1, dataset=parent)\n"
                "print(dataset.id.val)"
            ).split()[-1]
        )

    def await_scripts(self, seconds: float = 240) -> str:
        """Wait until a Processor takes scripts; returns the seconds. Its old connections may have to time out."""
        started, client = time.monotonic(), self.container("client")
        argv = ["omero", "script", "params", str(self.script)]
        until(lambda: self.engine.run("exec", client, *argv, timeout=RUN_SECONDS), seconds, "a Processor takes scripts")
        return f"{time.monotonic() - started:.0f}"

    def images_in(self, dataset: str) -> list[str]:
        """The names of the images in all datasets of a name."""
        names = self.gateway(
            f"for dataset in connection.getObjects('Dataset', attributes={{'name': {dataset!r}}}):\n"
            "    for image in dataset.listChildren(): print('image', image.getName())"
        )
        return sorted(line.removeprefix("image ") for line in names.splitlines() if line.startswith("image "))

    # -- runs ----------------------------------------------------------------------------------------------------------

    def launch(self, *, sleep: int = 0) -> Launch:
        """``omero script launch``, as a process of its own."""
        self._dataset += 1
        return Launch(self, f"results-{self._dataset}", sleep)

    def runs(self) -> dict[str, str]:
        """Each run with its newest status, from the view that dashboards read; no process of ours is needed for it."""
        rows = self.sql("select workflow_id, status from biomero_workflow_progress_view")
        return dict(line.split("|", 1) for line in rows.splitlines() if "|" in line)

    def sql(self, query: str) -> str:
        argv = ["psql", "-XAtq", "-h", "127.0.0.1", "-U", "biomero", "-d", "biomero", "-c", query]
        secret = {"PGPASSWORD": (self.project / "secrets/biomero_db_password").read_text().strip()}
        return self.engine.run(
            "exec", "-e", "PGPASSWORD", self.container("database-biomero"), *argv, environment=secret
        )

    def shown(self, run: str) -> dict[str, Any]:
        """The output of ``biomeroworker show --json`` for a run, from a node that runs: a test may have killed one."""
        node = next(node for node in NODES if self.engine.inspect(self.container(node))["State"]["Running"])
        found: dict[str, Any] = json.loads(self.biomeroworker("show", run, "--json", node=node))
        return found

    def holder(self, run: str) -> str:
        """The node whose supervisor has the lease of a run. Its name begins with the host's, the container's id."""
        name = until(lambda: self.sql(f"select holder from biomeroworker_lease where run_id = '{run}'"), 30, "a lease")
        containers = {self.execute(node, "hostname"): node for node in NODES}
        return containers[name.partition(":")[0]]

    def jobs(self, name: str) -> set[str]:
        """The ids of the SLURM jobs of a name: those in the queue and those that accounting knows."""
        rows = self.execute("localslurm", "squeue", "-h", "-t", "all", f"--name={name}", "-o", "%F")
        rows += "\n" + self.execute(
            "localslurm", "sacct", "-a", "-n", "-X", "-S", "now-1days", f"--name={name}", "-o", "JobID%-20"
        )
        return {row.partition("_")[0] for row in rows.split()}


class Launch:
    """A launch of the script, and the run that came of it."""

    def __init__(self, stack: Stack, dataset: str, sleep: int) -> None:
        self.stack, self.dataset = stack, dataset
        before = set(stack.runs())
        self.started = time.time()
        inputs = [
            "Data_Type=Dataset", f"IDs={stack.dataset}", f"{workload.NAME}=True", f"{workload.NAME}_|_sleep={sleep}",
            f"3a) Import into NEW Dataset={dataset}",
        ]  # fmt: skip
        self._written = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by `close`
        command = ["omero", "script", "launch", str(stack.script), *inputs]
        self.process = subprocess.Popen(
            [DOCKER, "exec", stack.container("client"), *command],
            env=stack.engine.environment, stdin=subprocess.DEVNULL, stdout=self._written, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.run = until(lambda: self._new(before), 60, "the script has handed its run in")

    def _new(self, before: set[str]) -> str:
        new = set(self.stack.runs()) - before
        if not new and self.process.poll() is not None:
            raise AssertionError(f"omero script launch ended with {self.process.returncode}:\n{self.output()}")
        return next(iter(new), "")

    def output(self) -> str:
        self._written.seek(0)
        return self._written.read()

    def await_state(self, *states: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """Wait until the run is in one of these states, according to the event log."""

        def there() -> bool:
            row = self.stack.sql(
                f"select state, paused, pause_reason from biomeroworker_run where run_id = '{self.run}'"
            )
            state, paused, reason = row.split("|", 2)
            assert paused == "f", reason
            assert state in states or state not in TERMINAL, self.stack.shown(self.run)["report"]
            return state in states

        until(there, seconds, f"run {self.run} is {' or '.join(states)}")
        return self.stack.shown(self.run)

    def await_job(self) -> str:
        """Wait until the run's job runs in SLURM; its id."""
        found = self.await_state("running")
        name = found["attempts"][-1]["name"]
        until(
            lambda: self.stack.execute("localslurm", "squeue", "-h", "-t", "R", f"--name={name}", "-o", "%i"), 60,
            "SLURM runs the job",
        )  # fmt: skip
        return str(name)

    def await_script(self, seconds: float = 60) -> str:
        """Wait until ``omero script launch`` has ended well; what it wrote."""
        assert self.process.wait(seconds) == 0, self.output()
        return self.output()

    def check(self) -> dict[str, Any]:
        """Design §2 of this run: it ended once, with at most one SLURM job per attempt, and one set of results."""
        found = self.await_state("done")
        names = [event["name"] for event in found["events"]]
        ends = [name for name in names if name in ("WorkflowCompleted", "WorkflowFailed", "RunCancelled")]
        assert len(ends) == 1, names
        jobs = {attempt["name"]: self.stack.jobs(attempt["name"]) for attempt in found["attempts"]}
        assert all(len(ids) <= 1 for ids in jobs.values()), jobs
        assert any(jobs.values()), jobs
        assert len(self.stack.images_in(self.dataset)) == 2, self.stack.images_in(self.dataset)
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._written.close()


@contextlib.contextmanager
def running(engine: Engine, project: Path, tags: Mapping[str, str]) -> Any:
    """The project for as long as the block runs. ``KEEP_STACK=1`` leaves it, for a look at it."""
    stack = Stack(engine, project, tags)
    try:
        stack.up()
        yield stack
    finally:
        if not os.environ.get("KEEP_STACK"):
            stack.down()
