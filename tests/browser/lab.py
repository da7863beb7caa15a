"""A laboratory for the browser tests: the sandbox with OMERO.web, workflows, a user with images, and the scripts."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import omero.clients  # noqa: F401 (first, because modules of omero-py import each other in a circle)
from omero.gateway import BlitzGateway

from sandbox import demo_data, deployment
from sandbox.parts.account import cluster_home, cluster_user
from sandbox.root import Root
from sandbox.workflow.build import build_and_push
from sandbox.workflow.sif import packed
from tests.integration.omero.user_name_script import SCRIPT as USER_NAME_SCRIPT
from tests.sandbox_fixtures import CHECKOUT, Sandbox
from tests.site_fixtures import DESCRIPTOR

#: The folder of the scripts on the server, and in the menu of OMERO.web.
SCRIPT_FOLDER = "BIOMERO"
#: The folder in it with the scripts for biologists.
WORKFLOW_SCRIPTS = "workflows"
#: The workflow with the small container whose parameters set its behaviour.
SMALL_WORKFLOW = "obedient"
COMMAND_TIMEOUT_SECONDS = 300
#: Seconds in which the cluster starts or ends a job, or accounting knows it, on a machine with other work.
CLUSTER_TIMEOUT_SECONDS = 120
BIOMEROWORKER = str(Path(sys.executable).parent / "biomeroworker")


@dataclass(frozen=True)
class Lab:
    """The addresses and accounts of a running laboratory."""

    sandbox: Sandbox
    url: str
    user: str
    password: str
    root_password: str
    omero: tuple[str, int]
    data: demo_data.DemoData
    env: dict[str, str]

    @contextmanager
    def connected(self, user: str = "", password: str = "") -> Iterator[BlitzGateway]:
        """A connection to OMERO, as the biologist unless another user is given."""
        connection = BlitzGateway(
            user or self.user, password or self.password, host=self.omero[0], port=self.omero[1], secure=True
        )
        assert connection.connect(), connection.getLastError()
        try:
            yield connection
        finally:
            connection.close()

    def biomeroworker(self, *arguments: str) -> str:
        """The output of a command of biomeroworker."""
        command = [BIOMEROWORKER, *arguments]
        done = subprocess.run(
            command, cwd=CHECKOUT, env={**os.environ, **self.env}, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def state(self, run: str) -> str:
        """The state of a run."""
        return str(json.loads(self.biomeroworker("show", run, "--json"))["state"])

    def running_jobs(self, run: str) -> list[str]:
        """IDs of the jobs of a run that SLURM has not ended."""
        jobs = self._slurm("squeue", "--noheader", "--format=%j/%A")
        return [job for name, job in jobs if name.startswith(f"biomero-{run}")]

    def completed_tasks(self, run: str) -> list[str]:
        """IDs of the jobs and array tasks of a run that accounting has as completed."""
        jobs = self._slurm("sacct", "-nXP", "--delimiter=/", "--format=JobName,JobID,State", "-S", "now-2hours")
        return [job for name, job, state in jobs if name.startswith(f"biomero-{run}") and state == "COMPLETED"]

    def _slurm(self, *command: str) -> list[list[str]]:
        """The lines of the output, each split at its slash."""
        done = self.sandbox.ssh(*command)
        assert done.returncode == 0, done.stderr
        return [line.split("/") for line in done.stdout.splitlines()]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + CLUSTER_TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not true within {CLUSTER_TIMEOUT_SECONDS} s"
        time.sleep(0.5)


@contextmanager
def running(sandbox: Sandbox, small_image: str) -> Iterator[Lab]:
    """Start everything; ``small_image`` is the reference of the container of `SMALL_WORKFLOW`."""
    sandbox.up("omero", "cluster", "apptainer", "registry", "postgres", "web")
    env = dict(sandbox.env)
    digests = build_and_push(env["REGISTRY"], lambda line: None)
    deployment.write(sandbox.path, env)
    _add_workflow(Path(env["BIOMERO_CONFIG"]), small_image)
    _copy_images(sandbox, env["REGISTRY"], digests)
    password = secrets.token_urlsafe(12)
    omero_address = (env["OMERO_HOST"], int(env["OMERO_PORT"]))
    data = demo_data.put(omero_address, env["OMERO_ROOT_PASSWORD"], password)
    env |= {"OMERO_USER": "root", "OMERO_PASSWORD": env["OMERO_ROOT_PASSWORD"]}
    lab = Lab(sandbox, env["OMERO_WEB"], data.user, password, env["OMERO_ROOT_PASSWORD"], omero_address, data, env)
    lab.biomeroworker("init")
    _upload_scripts(lab)
    with _supervisor(lab, sandbox.path / "log/supervise.log"):
        yield lab


def _add_workflow(config: Path, image: str) -> None:
    """Add `SMALL_WORKFLOW` to the ini file, whose last section is ``[WORKFLOWS]``.

    Its descriptor names TIFF, because OMERO.biomero without its importer hides workflows that read OME-Zarr.
    """
    folder = config.parent / SMALL_WORKFLOW
    folder.mkdir(exist_ok=True)
    descriptor = json.loads(json.dumps(DESCRIPTOR))
    descriptor["container-image"]["image"] = image
    descriptor["inputs"][0]["format"] = ["tif"]
    (folder / "descriptor.json").write_text(json.dumps(descriptor))
    lines = {"": SMALL_WORKFLOW, "_repo": folder, "_job_time": "00:10:00", "_job_mem": "256M"}
    with config.open("a") as file:
        file.writelines(f"{SMALL_WORKFLOW}{key} = {value}\n" for key, value in lines.items())


def _copy_images(sandbox: Sandbox, registry: str, digests: dict[str, str]) -> None:
    """Copy the large images to the cluster, so that ``init`` does not pull them."""
    root = Root(sandbox.path)
    home, user = cluster_home(root), cluster_user(root)
    for image, folder in ((deployment.IMAGE, f"workflows/{deployment.WORKFLOW}"), (deployment.CONVERTER, "converters")):
        reference = f"{image}:{deployment.VERSION}"
        file = packed(root.path / "apptainer/usr/bin/apptainer", registry, reference, digests[reference])
        target = home / "images" / folder / f"{image.rpartition('/')[2]}_{deployment.VERSION}.sif"
        command = ["install", "-D", "--owner", user, "--group", user, "--mode", "644", str(file), str(target)]
        subprocess.run(command, check=True, timeout=60)
    subprocess.run(["chown", "-R", f"{user}:", str(home / "images")], check=True, timeout=60)


def _upload_scripts(lab: Lab) -> None:
    """Upload all scripts as official ones, and another one: OMERO.web leaves out a folder that is the only one."""
    folder = CHECKOUT / "scripts"
    scripts = {
        f"{SCRIPT_FOLDER}/{script.relative_to(folder)}": script.read_text() for script in sorted(folder.rglob("*.py"))
    }
    with lab.connected("root", lab.root_password) as connection:
        service = connection.getScriptService()
        known = {f"{script.path.val}{script.name.val}".lstrip("/"): script for script in service.getScripts()}
        for path, text in {**scripts, "omero/util_scripts/User_Name.py": USER_NAME_SCRIPT}.items():
            if path in known:
                service.editScript(known[path], text)
            else:
                service.uploadOfficialScript(path, text)


@contextmanager
def _supervisor(lab: Lab, log: Path) -> Iterator[None]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [BIOMEROWORKER, "supervise"], cwd=CHECKOUT, env={**os.environ, **lab.env},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
