"""A deployment of biomeroworker on a login node with a fake SLURM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.context import PROGRAMS
from benchmarks.frontend import FrontEnd

DESCRIPTOR = {
    "schema-version": "biomero-0.1", "name": "waits", "description": "runs for ever", "command-line": "/run.sh",
    "container-image": {"image": "lab/waits:v1.0.0", "type": "oci"}, "outputs": [],
    "inputs": [
        {"id": "images", "type": "image", "name": "images", "description": "", "set-by-server": True,
         "optional": False, "value-key": "@ID", "command-line-flag": "--@id", "format": ["zarr"],
         "sub-type": ["grayscale"]},
    ],
}  # fmt: skip


def deploy(server: FrontEnd, folder: Path, url: str, *, poll_seconds: int = 15) -> Path:
    """Create the deployment and return its ini file. ``folder / "images"`` contains one small image."""
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol"):
        shutil.copy(PROGRAMS / "slurm_script", server.bin / name)
    image = server.home / "images/waits/waits_v1.0.0.sif"
    image.parent.mkdir(parents=True)
    image.write_text("no container: the fake SLURM only reports that its jobs run\n")
    (folder / "waits").mkdir(parents=True)
    (folder / "waits/descriptor.json").write_text(json.dumps(DESCRIPTOR))
    (folder / "images").mkdir()
    tifffile.imwrite(folder / "images/one.tif", np.zeros((8, 8), "uint16"))
    config = folder / "slurm-config.ini"
    config.write_text(
        f"[SSH]\nhost = {server.alias}\nconfig_file = {server.config}\n"
        f"[SLURM]\nslurm_data_path = data\nslurm_images_path = images\npoll_seconds = {poll_seconds}\n"
        f"[ANALYTICS]\nsqlalchemy_url = {url}\n[WORKER]\nwork_folder = {folder}/work\n"
        f"[WORKFLOWS]\nwaits = waits\nwaits_repo = {folder}/waits\nwaits_job = jobs/waits.sh\n"
    )
    return config
