"""A client on a cluster that is a folder of this machine; its sbatch runs the job at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from biomero import SlurmClient
from biomeroworker.cluster.cluster import Cluster
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport

#: A workflow with a number and a file.
DESCRIPTOR = {
    "name": "count", "description": "count", "schema-version": "cytomine-0.1", "command-line": "run",
    "container-image": {"image": "lab/count:v1", "type": "oci"},
    "inputs": [
        {"id": "size", "type": "Number", "name": "size", "description": "size", "default-value": 5, "optional": True},
        {"id": "model", "type": "file", "name": "model", "description": "model", "optional": True,
         "set-by-server": True, "file-attachment": True},
    ],
}  # fmt: skip
SBATCH = """#!/bin/bash
[ -z "$REFUSE" ] || { echo "sbatch: error: invalid partition specified" >&2; exit 1; }
printf '%s\n' "$@" >"$HOME/options"
while [ $# -gt 0 ]; do
    case $1 in --chdir=*) cd -- "${1#*=}" ;; --output=*) out=${1#*=} ;; --*) ;; *) break ;; esac
    shift
done
bash "$@" >"${out//%j/7}" 2>&1 && echo COMPLETED >"$HOME/state" || echo FAILED >"$HOME/state"
pwd >"$HOME/workdir"
echo 7
"""
SQUEUE = """#!/bin/sh
[ ! -e "$HOME/state" ] || echo "7_N/A|$(cat "$HOME/state")"
"""
SCONTROL = """#!/bin/sh
echo "   WorkDir=$(cat "$HOME/workdir")"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def client(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmClient]:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": SCONTROL, "sacct": "#!/bin/sh\n"}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    cluster = Cluster(
        FakeTransport(home, path=[programs, Path(sys.executable).parent]), FakeRuntime(tmp_path / "registry"),
        data="data", images="images", converters="converters", converter_images={"zarr_to_tiff": "lab/convert:v1"},
    )  # fmt: skip
    (home / "converters").mkdir()
    (home / "converters/convert_zarr_to_tiff_v1.sif").write_text("#")
    monkeypatch.setattr(Cluster, "from_settings", lambda settings, converters: cluster)
    (home / "images/count").mkdir(parents=True)
    (home / "images/count/count_v1.sif").write_text("touch data/out/result\n")
    (tmp_path / "count.json").write_text(json.dumps(DESCRIPTOR))
    ini = tmp_path / "slurm.ini"
    ini.write_text(
        "[SLURM]\nslurm_data_path = data\nslurm_images_path = images\n"
        "slurm_script_path = jobs\nslurm_conversion_partition = short\nsbatch_mem = 1G\n"
        f"[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\nanalytics_rebuild_days_ago = 3\n"
        f"[WORKFLOWS]\ncount = count\ncount_repo = {tmp_path}/count.json\n"
    )
    with SlurmClient.from_config(str(ini)) as client:
        yield client
