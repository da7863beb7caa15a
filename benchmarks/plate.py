"""A plate from OMERO through the cluster and back: wall time from launch to done, with overlap and without.

96 wells of 4 fields of 3 channels, small images, on OMERO and the cluster of the sandbox. The container waits a fixed
time for each field, so that the result depends on the order of the work and not on the two cores of the machine. Three
ways are compared: all fields in one job; an array whose tasks are released when the last chunk has arrived; an array
whose tasks are released one by one when their chunks arrive, while the next chunks are exported and sent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.context import Context, environment
from benchmarks.executions import Site, descriptor
from benchmarks.figures import OURS, Figures
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.omero.connection.session import OmeroSession

#: The time that the container waits for each field.
FIELD_MILLISECONDS = 250
PROGRAM = f"""#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --infolder) in=$2; shift ;; --outfolder) out=$2; shift ;; esac
    shift
done
fields=0
for field in "$in"/plate-*/*/*/*/; do [ -d "$field/0" ] && fields=$((fields + 1)); done
echo "$fields fields"
sleep $((1 + fields * {FIELD_MILLISECONDS} / 1000))
echo "$fields" >"$out/fields.txt"
"""
_SUPERVISE = "from biomeroworker.cli import main; main()"
#: The same, but all tasks of an array are released together, when all chunks have arrived.
_RELEASE_TOGETHER = """
from biomeroworker.cluster.cluster import Cluster
release, ready = Cluster.release, set()
def together(self, name, tasks):
    ready.update(tasks)
    if len(ready) == {chunks}:
        release(self, name, sorted(ready))
Cluster.release = together
"""


def measure(context: Context) -> Figures:
    """Run the same plate in three ways."""
    wells, fields, batch = context.size(96, 4), context.size(4, 2), context.size(48, 4)
    chunks = wells * fields // batch
    figures = Figures(
        "plate",
        f"a plate of {wells} wells × {fields} fields × 3 channels, from launch to done",
        f"{wells * fields} images of 256², 16 bit; the container takes {FIELD_MILLISECONDS} ms per field; chunks of "
        f"{batch} fields; two nodes with four processors each.",
    )
    context.report("OMERO, the cluster and the plate")
    env = context.up("cluster", "apptainer", "postgres", "tables", "glacier2")
    site = Site(context, PROGRAM, "plates")
    plate = _make_plate(env, wells, fields)
    ways = {
        "one job": (0, _SUPERVISE),
        f"array of {chunks}, no overlap": (batch, _RELEASE_TOGETHER.format(chunks=chunks) + _SUPERVISE),
        f"array of {chunks}, with overlap": (batch, _SUPERVISE),
    }
    times: dict[str, list[dict[str, float]]] = {}
    for _ in range(context.times):
        for way, (size, program) in ways.items():
            context.report(f"plate, {way}")
            with context.database() as url:
                times.setdefault(way, []).append(_once(context, site, url, plate, size, program))
    for way, many in times.items():
        stages = [name for name in many[-1] if name != "all"]
        note = ", ".join(f"{name} {many[-1][name]:.0f} s" for name in stages)
        figures.add(f"launch to done, {way}", OURS, [one["all"] for one in many], "s", note)
    return figures


def _make_plate(env: dict[str, str], wells: int, fields: int) -> int:
    from tests.integration.omero.omero_objects import make_image, make_plate

    rng = np.random.default_rng(5)
    with OmeroSession.login(env["OMERO_HOST"], int(env["OMERO_PORT"]), "root", env["OMERO_ROOT_PASSWORD"]) as session:
        at = {}
        for well in range(wells):
            values = rng.poisson(200, (1, 3, 1, 256, 256)).astype("uint16")
            at[well // 12, well % 12] = [make_image(session, f"{well}.{field}", values) for field in range(fields)]
        number: int = make_plate(session, at)
        return number


def _once(context: Context, site: Site, url: str, plate: int, batch: int, program: str) -> dict[str, float]:
    folder = context.work("plate")
    (folder / "plates").mkdir()
    (folder / "plates/descriptor.json").write_text(json.dumps(descriptor("lab/plates:v1.0.0")))
    ini = folder / "slurm-config.ini"
    ini.write_text(
        f"[SSH]\nhost = {site.env['SSH_HOST']}\nconfig_file = {site.env['SSH_CONFIG']}\n"
        f"[SLURM]\nslurm_data_path = {site.home}/ours\nslurm_images_path = {site.home}/images\nsbatch_mem = 256M\n"
        f"[ANALYTICS]\nsqlalchemy_url = {url}\n[WORKER]\nwork_folder = {folder}/work\n"
        f"[WORKFLOWS]\nplates = plates\nplates_repo = {folder}/plates\nplates_job = jobs/p.sh\n"
        f"plates_job_time = 00:05:00\nplates_job_cpus-per-task = 1\n"
    )
    given = {"OMERO_HOST": site.env["OMERO_HOST"], "OMERO_PORT": site.env["OMERO_PORT"]}
    given |= {"OMERO_USER": "root", "OMERO_PASSWORD": site.env["OMERO_ROOT_PASSWORD"]}
    log = (folder / "log").open("w")
    with Deployment.load(ini) as deployment:
        command = [sys.executable, "-c", program, "supervise", "-c", str(ini)]
        process = subprocess.Popen(command, cwd=folder, env=environment("ours") | given, stdout=log, stderr=log)
        try:
            _await_start(folder / "log")
            request = RunRequest(
                workflow="plates",
                source="omero",
                inputs={"type": "Plate", "ids": [plate]},
                outputs={"images": False, "rois": False, "tables": False},
                batch_size=batch,
            )
            began = time.monotonic()
            run_id = deployment.submit(request)
            while not (run := deployment.log.run(run_id)).state.is_terminal:
                if run.paused or time.monotonic() - began > 900:
                    raise RuntimeError(f"the run is {run.state}, {run.pause_reason}")
                time.sleep(0.2)
            took = time.monotonic() - began
            if run.state is not RunState.DONE:
                raise RuntimeError(f"the run has failed: {run.report}")
            outcomes: dict[Any, dict[str, Any]] = run.outcomes
        finally:
            process.terminate()
            process.wait(20)
            log.close()
    stages = {str(getattr(stage, "value", stage)): one.get("seconds") for stage, one in outcomes.items()}
    return {"all": took, **{name: float(seconds) for name, seconds in stages.items() if seconds is not None}}


def _await_start(log: Path) -> None:
    end = time.monotonic() + 60
    while "supervising" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.1)
