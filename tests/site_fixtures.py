"""A deployment on the sandbox's real cluster, with a container whose behaviour its parameters select.

The container is busybox and a script: small enough that a test takes only seconds. It reads OME-Zarr, so no converter
is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.sources import Sources
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.eventlog.runlog import WorkflowRun
from sandbox.workflow import oci

#: The program of the container: each parameter selects one behaviour.
PROGRAM = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --infolder) in=$2; shift ;;
        --outfolder) out=$2; shift ;;
        --exit=*) exit=${1#*=} ;;
        --sleep=*) sleep=${1#*=} ;;
        --write=*) write=${1#*=} ;;
        --text=*) text=${1#*=} ;;
        --labels=*) labels=${1#*=} ;;
        --fail=*) fail=${1#*=} ;;
        --model=*) model=${1#*=} ;;
        --skip=*) skip=${1#*=} ;;
    esac
    shift
done
echo "working on $in, 37% done"
sleep "$sleep"
for key in $fail; do
    [ ! -e "$in/$key.ome.zarr" ] || { echo "failing on $key" >&2; exit 3; }
done
if [ "$write" = True ]; then
    for image in "$in"/image-*; do
        name=${image##*/}
        case " $skip " in *" ${name%.ome.zarr} "*) continue ;; esac
        printf '%s' "$text" > "$out/${name%.ome.zarr}_text.txt"
    done
fi
[ ! -d "$model" ] || cat "$model"/* > "$out/model.txt"
[ ! -f "$model" ] || cat "$model" > "$out/model.txt"
if [ "$labels" = True ]; then
    echo image,label,area > "$out/objects.csv"
    for image in "$in"/image-*; do
        name=${image##*/}
        cp /labels.tif "$out/${name%.ome.zarr}_mask.tif"
        echo "${name%.ome.zarr},1,16" >> "$out/objects.csv"
        echo "${name%.ome.zarr},2,9" >> "$out/objects.csv"
    done
fi
[ "$exit" = 0 ] || { echo "failing on purpose with $exit" >&2; exit "$exit"; }
"""

DESCRIPTOR = {
    "schema-version": "biomero-0.1",
    "name": "obedient",
    "description": "its parameters set its behaviour",
    "container-image": {"image": "", "type": "oci"},
    "command-line": "/run.sh",
    "inputs": [
        {
            "id": "images", "type": "image", "name": "images", "description": "", "set-by-server": True,
            "optional": False,
            "value-key": "@ID", "command-line-flag": "--@id", "format": ["zarr"], "sub-type": ["grayscale"],
        },
        {
            "id": "model", "type": "file", "name": "model", "description": "", "set-by-server": False,
            "optional": True, "file-attachment": True,
            "value-key": "@ID", "command-line-flag": "--@id", "format": ["txt"], "sub-type": [],
        },
        *(
            {
                "id": name, "type": kind, "name": name, "description": name, "default-value": default, "optional": True,
                "set-by-server": False, "value-key": "@ID", "command-line-flag": "--@id", **bounds,
            }
            for name, kind, default, bounds in (
                ("exit", "integer", 0, {"minimum": 0, "maximum": 255}),
                ("sleep", "integer", 0, {"minimum": 0, "maximum": 600}),
                ("write", "boolean", True, {}),
                ("text", "string", "hello", {}),
                ("labels", "boolean", False, {}),
                ("fail", "string", "", {}),
                ("skip", "string", "", {}),
            )
        ),
    ],
    "outputs": [],
}  # fmt: skip


@dataclass
class Site:
    """A configured deployment."""

    config: Path
    folder: Path
    deployment: Deployment

    def images(self, *names: str) -> Path:
        """A folder of small images of these names."""
        folder = self.folder / f"images-{os.urandom(4).hex()}"
        folder.mkdir()
        for number, name in enumerate(names):
            tifffile.imwrite(folder / name, np.full((16, 16), number, "uint16"))
        return folder

    def request(self, images: Path, workflow: str = "obedient", **parameters: str | int | float | bool) -> RunRequest:
        """A request for a run on a folder, with results in a new one."""
        results = self.folder / f"results-{os.urandom(4).hex()}"
        return RunRequest(
            workflow=workflow,
            parameters=dict(parameters),
            source="folder",
            inputs={"folder": str(images)},
            outputs={"folder": str(results)},
        )

    def supervisor(self, deployment: Deployment | None = None) -> Supervisor:
        """A supervisor of this deployment."""
        deployment = deployment or self.deployment
        executor = RunExecutor(
            deployment.log,
            deployment.clusters,
            Sources(),
            deployment.settings,
        )
        return Supervisor(deployment.log, executor)

    def execute(self, request: RunRequest) -> WorkflowRun:
        """Submit a run and execute it to its end."""
        run_id = self.deployment.submit(request)
        self.supervisor().run_until_end(run_id)
        return self.deployment.log.run(run_id)

    def results(self, run: WorkflowRun) -> Path:
        """Where a run's results are."""
        assert run.request is not None
        return Path(run.request["outputs"]["folder"])

    def jobs(self) -> list[str]:
        """Names of the jobs that the scheduler has not finished."""
        done = self.deployment.cluster.transport.run(["squeue", "--noheader", "--format=%j"])
        assert done.ok
        return done.stdout.split()

    def jobs_ever(self, prefix: str, *, tasks: int = 1) -> list[str]:
        """Names of jobs in accounting that start with ``prefix``; accounting is some seconds late.

        Parameters
        ----------
        tasks
            Wait until there are at least this many.
        """
        command = ["sacct", "-nXP", "--format=JobName", "-S", "now-2hours"]
        deadline = time.monotonic() + 60
        while True:
            names = self.deployment.cluster.transport.run(command).stdout.split()
            found = [name for name in names if name.startswith(prefix)]
            if len(found) >= tasks:
                return found
            assert time.monotonic() < deadline, f"accounting has no job {prefix}"
            time.sleep(0.5)


@pytest.fixture(scope="session")
def obedient_image(registry: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The container, in the registry; its reference."""
    folder = tmp_path_factory.mktemp("obedient")
    rootfs = folder / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "var/tmp", "root", "home"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", rootfs / "bin/busybox")
    labels = np.zeros((16, 16), "uint16")
    labels[2:6, 2:6], labels[9:12, 9:12] = 1, 2
    tifffile.imwrite(rootfs / "labels.tif", labels)
    for name in ("sh", "sleep", "cat", "cp", "mkdir", "env"):
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "run.sh").write_text(PROGRAM)
    (rootfs / "run.sh").chmod(0o755)
    layer = oci.Layer.of_folder(rootfs, folder / "layer.tar.gz")
    oci.write_layout(folder / "layout", "v1.0.0", [layer], ["/run.sh"], {})
    target = f"{registry}/lab/obedient:v1.0.0"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false",
         f"oci:{folder}/layout:v1.0.0", f"docker://{target}"],
        check=True,
        timeout=60,
    )  # fmt: skip
    return target


@pytest.fixture(scope="session")
def make_site(apptainer, postgres: str, registry: str, obedient_image: str, tmp_path_factory) -> Callable[..., Site]:
    """Make deployments on the session's cluster; images are pulled by ``init``'s own code.

    They poll twice per second; tests that count queries set ``poll_seconds`` to the value of a real site.
    """
    env = apptainer.env

    def make(
        *,
        database: str = postgres,
        ssh_config: str = env["SSH_CONFIG"],
        pull: bool = True,
        extra: str = "",
        poll_seconds: float = 0.5,
    ) -> Site:
        folder = tmp_path_factory.mktemp("site")
        descriptor = json.loads(json.dumps(DESCRIPTOR))
        descriptor["container-image"]["image"] = obedient_image
        (folder / "obedient").mkdir()
        (folder / "obedient/descriptor.json").write_text(json.dumps(descriptor))
        (folder / "broken").mkdir()
        (folder / "broken/descriptor.json").write_text('{"name": "broken"')
        home = env["CLUSTER_HOME"]
        config = folder / "slurm-config.ini"
        config.write_text(
            f"""
[SSH]
host = {env["SSH_HOST"]}
config_file = {ssh_config}
[SLURM]
slurm_data_path = {home}/data
slurm_images_path = {home}/images
slurm_converters_path = {home}/converters
insecure_registries = {registry}
poll_seconds = {poll_seconds}
sbatch_mem = 256M
{extra}
[ANALYTICS]
sqlalchemy_url = {database}
[WORKER]
work_folder = {folder}/runs
[WORKFLOWS]
obedient = obedient
obedient_repo = {folder}/obedient
obedient_job = jobs/obedient.sh
obedient_job_time = 00:05:00
obedient_job_cpus-per-task = 1
obedient_accepts = channels: 1-3
broken = broken
broken_repo = {folder}/broken
"""
        )
        site = Site(config, folder, Deployment.load(config))
        if pull:
            site.deployment.provision().raise_for_failures()
        return site

    return make


@pytest.fixture(scope="module")
def site(make_site: Callable[..., Site]) -> Iterator[Site]:
    """A deployment on the cluster with Postgres."""
    made = make_site()
    yield made
    made.deployment.close()
