"""The workflow of the scenarios: its parameters control what it does; its container image has one megabyte.

The image is busybox and a script. It reads OME-Zarr, so no converter is needed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import tifffile

from sandbox.workflow import oci

NAME = "obedient"
VERSION = "v1.0.0"
REGISTRY = "registry:5000"
IMAGE = f"{REGISTRY}/lab/{NAME}:{VERSION}"

PROGRAM = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
        --infolder) in=$2; shift ;;
        --outfolder) out=$2; shift ;;
        --sleep=*) sleep=${1#*=} ;;
    esac
    shift
done
sleep "$sleep"
for image in "$in"/image-*; do
    name=${image##*/}
    cp /labels.tif "$out/${name%.ome.zarr}_mask.tif"
done
"""

DESCRIPTOR = {
    "schema-version": "biomero-0.1",
    "name": NAME,
    "description": "sleeps, and writes a label image for each image",
    "container-image": {"image": IMAGE, "type": "oci"},
    "command-line": "/run.sh",
    "inputs": [
        {
            "id": "images", "type": "image", "name": "images", "description": "", "set-by-server": True,
            "optional": False, "value-key": "@ID", "command-line-flag": "--@id", "format": ["zarr"],
            "sub-type": ["grayscale"],
        },
        {
            "id": "sleep", "type": "integer", "name": "sleep", "description": "seconds", "default-value": 0,
            "optional": True, "set-by-server": False, "value-key": "@ID", "command-line-flag": "--@id", "minimum": 0,
            "maximum": 600,
        },
    ],
    "outputs": [],
}  # fmt: skip

CONFIGURATION = f"""
[SSH]
host = localslurm
[SLURM]
slurm_data_path = data
slurm_images_path = images
slurm_converters_path = converters
insecure_registries = {REGISTRY}
poll_seconds = 1
sbatch_mem = 128M
free_space_gb = 1
[WORKFLOWS]
{NAME} = {NAME}
{NAME}_repo = /workflows/{NAME}
{NAME}_job_time = 00:10:00
{NAME}_job_cpus-per-task = 1
"""


def write_layout(folder: Path) -> Path:
    """The workflow's container image, as an OCI layout."""
    root = folder / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "var/tmp", "root", "home"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "sleep", "cp"):
        (root / "bin" / name).symlink_to("busybox")
    labels = np.zeros((16, 16), "uint16")
    labels[2:6, 2:6], labels[9:12, 9:12] = 1, 2
    tifffile.imwrite(root / "labels.tif", labels)
    (root / "run.sh").write_text(PROGRAM)
    (root / "run.sh").chmod(0o755)
    layer = oci.Layer.of_folder(root, folder / "layer.tar.gz")
    layout = folder / "layout"
    oci.write_layout(layout, VERSION, [layer], ["/run.sh"], {})
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.is_symlink():
            content = blob.read_bytes()
            blob.unlink()
            blob.write_bytes(content)
    return layout


def write_descriptor(folder: Path) -> None:
    """The workflow's repository."""
    (folder / NAME).mkdir(parents=True)
    (folder / NAME / "descriptor.json").write_text(json.dumps(DESCRIPTOR))
