"""SSH commands, connections and bytes of one run from accepted to done, on the cluster of the sandbox.

Both sides run the same workflow on the same images: a container that reads OME-Zarr, sleeps, and writes a file for
each image, without conversion. Commands and SFTP sessions are counted in the log of sshd, bytes by a TCP relay.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.context import Context, environment
from benchmarks.figures import OURS, THEIRS, Figures
from benchmarks.relay import delayed
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.imaging.ome_zarr import write_image
from sandbox.root import Root

PROGRAM = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --infolder) in=$2; shift ;;
        --outfolder) out=$2; shift ;;
        --sleep=*) sleep=${1#*=} ;;
    esac
    shift
done
echo "20%"
sleep "$sleep"
for image in "$in"/image-*; do name=${image##*/}; echo hello >"$out/${name%.ome.zarr}_text.txt"; done
"""
IMAGES = 4


def descriptor(image: str) -> dict[str, Any]:
    """The descriptor of the workflow."""
    common = {"name": "", "description": "", "value-key": "@ID", "command-line-flag": "--@id"}
    return {
        "schema-version": "biomero-0.1", "name": "obedient", "description": "sleeps and writes",
        "container-image": {"image": image, "type": "oci"}, "command-line": "/run.sh", "outputs": [],
        "inputs": [
            {**common, "id": "images", "type": "image", "set-by-server": True, "optional": False, "format": ["zarr"],
             "sub-type": ["grayscale"]},
            {**common, "id": "sleep", "type": "integer", "default-value": 0, "optional": True, "set-by-server": False},
        ],
    }  # fmt: skip


@dataclass
class Cost:
    """The cost of one run."""

    executions: int
    sftp: int
    connections: int
    sent: int
    received: int
    seconds: float


class Site:
    """The cluster of the sandbox, with the image of the workflow."""

    def __init__(self, context: Context, program: str = PROGRAM, name: str = "obedient") -> None:
        self.env = context.up("cluster", "apptainer", "postgres")
        self.root = Root(context.sandbox)
        # a folder of its own: other users of the sandbox have an image of the same name
        self.home = Path(self.env["CLUSTER_HOME"]) / "benchmark"
        self.port = self.root.port("sshd")
        self.folder = context.work("executions")
        self.folder.chmod(0o755)
        self._make_image(program, name)

    def ssh(self, script: str, config: Path | None = None) -> None:
        """Run a shell command on the login node."""
        command = ["ssh", "-F", str(config or self.env["SSH_CONFIG"]), self.env["SSH_HOST"], script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{script}: {done.stderr}")

    def _make_image(self, program: str, name: str) -> None:
        tree = self.folder / "rootfs"
        for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "var/tmp", "root", "home", ".singularity.d"):
            (tree / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for link in ("sh", "sleep", "cat"):
            (tree / "bin" / link).symlink_to("busybox")
        for file, text in (("run.sh", program), (".singularity.d/runscript", '#!/bin/sh\nexec /run.sh "$@"\n')):
            (tree / file).write_text(text)
            (tree / file).chmod(0o755)
        self.ssh(
            f"mkdir -p {self.home}/images/{name} && cp -r {tree} {self.home}/rootfs && "
            f"apptainer build -F {self.home}/images/{name}/{name}_v1.0.0.sif {self.home}/rootfs && "
            f"rm -rf {self.home}/rootfs && mkdir -p {self.home}/theirs {self.home}/scripts"
        )

    @contextmanager
    def counted(self) -> Iterator[tuple[Path, Cost]]:
        """An SSH configuration that goes through the relay; the cost is filled in at the end."""
        log = self.root.log("sshd")
        with delayed(self.port, 0.0) as passed:
            known = self.folder / f"known_hosts-{passed.port}"
            host, key = f"[127.0.0.1]:{self.port}", f"[127.0.0.1]:{passed.port}"
            text = Path(self.env["SSH_CONFIG"]).read_text().replace(f"Port {self.port}", f"Port {passed.port}")
            keys = re.findall(r"(?m)^\s*UserKnownHostsFile\s+(.*)", text)[0]
            known.write_text(Path(keys).read_text().replace(host, key))
            config = self.folder / f"ssh_config-{passed.port}"
            config.write_text(text.replace(keys, str(known)))
            before = log.stat().st_size
            cost = Cost(0, 0, 0, 0, 0, 0.0)
            yield config, cost
            lines = log.read_bytes()[before:].decode(errors="replace")
        cost.executions = lines.count("Starting session: command")
        cost.sftp = lines.count("Starting session: subsystem 'sftp'")
        cost.connections, cost.sent, cost.received = passed.connections, passed.sent, passed.received


def measure(context: Context) -> Figures:
    """Measure a short and a long job."""
    figures = Figures(
        "executions",
        "SSH commands and bytes of one run, from accepted to done",
        f"{IMAGES} images of 256², on the cluster of the sandbox. Commands and SFTP sessions are counted in the log of "
        "sshd. biomero makes only the calls that its scripts make; each script has its own connection.",
    )
    context.report("the cluster and the workflow's image")
    site = Site(context)
    for sleep in (0, context.size(60, 1)):
        what = f"a job of {sleep} s"
        for kind, who, one in (("ours", OURS, _ours), ("theirs", THEIRS, _theirs)):
            if kind not in context.pythons:
                continue
            context.report(f"{what}, {who}")
            with context.database() as url:
                cost = one(context, site, url, sleep)
            figures.add(f"{what}: commands and SFTP sessions", who, cost.executions + cost.sftp, "calls")
            figures.add(f"{what}: connections", who, cost.connections, "")
            figures.add(f"{what}: bytes to the cluster", who, cost.sent / 1000, "kB")
            figures.add(f"{what}: bytes from the cluster", who, cost.received / 1000, "kB")
            figures.add(f"{what}: wall time", who, cost.seconds, "s")
    shutil.rmtree(site.folder)
    return figures.grouped()


def _pixels(number: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(number).poisson(200, (256, 256)).astype("uint16")


def _ours(context: Context, site: Site, url: str, sleep: int) -> Cost:
    folder = context.work("ours")
    (folder / "images").mkdir()
    (folder / "obedient").mkdir()
    (folder / "obedient/descriptor.json").write_text(json.dumps(descriptor("lab/obedient:v1.0.0")))
    for number in range(IMAGES):
        tifffile.imwrite(folder / f"images/{number}.tif", _pixels(number))
    with site.counted() as (config, cost):
        ini = folder / "slurm-config.ini"
        ini.write_text(
            f"[SSH]\nhost = {site.env['SSH_HOST']}\nconfig_file = {config}\n"
            f"[SLURM]\nslurm_data_path = {site.home}/ours\nslurm_images_path = {site.home}/images\n"
            f"sbatch_mem = 256M\n[ANALYTICS]\nsqlalchemy_url = {url}\n[WORKER]\nwork_folder = {folder}/work\n"
            f"[WORKFLOWS]\nobedient = obedient\nobedient_repo = {folder}/obedient\nobedient_job = jobs/o.sh\n"
            f"obedient_job_time = 00:05:00\nobedient_job_cpus-per-task = 1\n"
        )
        began = time.monotonic()
        with Deployment.load(ini) as deployment:
            request = RunRequest(
                workflow="obedient",
                parameters={"sleep": sleep},
                source="folder",
                inputs={"folder": str(folder / "images")},
                outputs={"folder": str(folder / "results")},
            )
            run_id = deployment.submit(request)
            command = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "supervise", "-c", str(ini)]
            log = (folder / "log").open("w")
            process = subprocess.Popen(command, cwd=folder, env=environment("ours"), stdout=log, stderr=log)
            try:
                while not (run := deployment.log.run(run_id)).state.is_terminal:
                    if run.paused or time.monotonic() - began > 300:
                        raise RuntimeError(f"the run is {run.state}, {run.pause_reason}")
                    time.sleep(0.1)
                cost.seconds = time.monotonic() - began
                if run.state is not RunState.DONE:
                    raise RuntimeError(f"the run has failed: {run.report}")
            finally:
                process.terminate()
                process.wait(20)
    return cost


def _theirs(context: Context, site: Site, url: str, sleep: int) -> Cost:
    folder = context.work("theirs")
    size = {axis: PhysicalSize(value=1.0, unit="micrometer") for axis in "yx"}
    for number in range(IMAGES):
        path = folder / "images" / f"image-{number}.ome.zarr"
        write_image(path, _pixels(number)[None, None, None], name=str(number), pixel_size=size)
    archive = shutil.make_archive(str(folder / f"images{sleep}"), "zip", folder / "images")
    (folder / "descriptor.json").write_text(json.dumps(descriptor("lab/obedient")))
    (folder / "results").mkdir()
    with site.counted() as (config, cost):
        given = {
            "host": site.env["SSH_HOST"], "ssh_config": str(config), "home": str(site.home), "url": url,
            "descriptor": str(folder / "descriptor.json"), "archive": archive, "results": str(folder / "results"),
            "sleep": sleep,
        }  # fmt: skip
        command = context.program("theirs", "run_work", json.dumps(given))
        with (folder / "log").open("w") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            process = subprocess.Popen(command, text=True, env=environment("theirs"), **pipes)
        assert process.stdout
        try:
            if json.loads(process.stdout.readline() or "null") != "ready":
                raise RuntimeError((folder / "log").read_text()[-2000:])
            answer = _last(process)
        finally:
            process.kill()
            process.wait(10)
        if answer.get("state") != "COMPLETED":
            raise RuntimeError(f"{answer}: {(folder / 'log').read_text()[-2000:]}")
        cost.seconds = answer["seconds"]
    return cost


def _last(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline() or "{}")
    return answer
