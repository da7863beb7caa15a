"""The script that converts a folder, on a cluster that is a folder of this machine; its sbatch runs the job at once."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.deployment.data_folders import DataFolders
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.omero.scripts.script import Account
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport

SCRIPT = Path(__file__).parents[3] / "scripts/data/SLURM_Remote_Conversion.py"
ADA = Account(user=7, user_name="ada", group=3, group_name="lab", is_admin=False)
SBATCH = """#!/bin/bash
while [ $# -gt 0 ]; do
    case $1 in --chdir=*) cd -- "${1#*=}" ;; --output=*) out=${1#*=} ;; --*) ;; *) break ;; esac
    shift
done
bash "$@" >"${out//%j/7}" 2>&1 && echo COMPLETED >"$HOME/state" || echo FAILED >"$HOME/state"
pwd >"$HOME/workdir"
echo 7
"""
PROGRAMS = {
    "sbatch": SBATCH,
    "squeue": '#!/bin/sh\n[ ! -e "$HOME/state" ] || echo "7_N/A|$(cat "$HOME/state")"\n',
    "scontrol": '#!/bin/sh\necho "   WorkDir=$(cat "$HOME/workdir")"\n',
    "sacct": "#!/bin/sh\n",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The cluster's home folder, with an image in the folder ``cells`` of user 7."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    cluster = Cluster(
        FakeTransport(home, path=[programs, Path(sys.executable).parent]), FakeRuntime(tmp_path / "registry"),
        data="data", images="images", converters="converters", converter_images={"zarr_to_tiff": "lab/convert:v1"},
    )  # fmt: skip
    monkeypatch.setattr(Cluster, "from_settings", lambda settings, converters: cluster)
    (home / "converters").mkdir()
    (home / "converters/convert_zarr_to_tiff_v1.sif").write_text("#")
    ini = tmp_path / "slurm.ini"
    ini.write_text(f"[SLURM]\nslurm_data_path = data\n[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\n")
    monkeypatch.setenv("BIOMERO_CONFIG", str(ini))
    monkeypatch.delenv("SQLALCHEMY_URL", raising=False)
    array = tmp_path / "images/image-1.ome.zarr"
    zarr.open_group(array, mode="w", zarr_format=2).attrs.update({"multiscales": [{"datasets": [{"path": "0"}]}]})
    zarr.save_array(str(array / "0"), np.arange(20, dtype="uint16").reshape(1, 1, 1, 4, 5), zarr_format=2)
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        DataFolders(SimpleNamespace(cluster=cluster, log=log), Requester(ADA.user)).send("cells", tmp_path / "images")
    return home


def convert(account=ADA, **inputs):
    given = {"Input data": "cells", "Source format": "zarr", "Target format": "tiff", **inputs}
    script = SimpleNamespace(inputs=given, account=account, report=lambda message: None)
    return runpy.run_path(str(SCRIPT), run_name="script")["convert"](script)


def run_of(home):
    with RunLog.open(f"sqlite:///{home.parent}/log.sqlite") as log:
        (summary,) = log.runs()
        return log.run(summary.id)


def test_the_images_are_converted_and_the_job_is_recorded_for_its_user(home):
    assert "converted to tiff (SLURM job 7)" in convert()
    data = home / "data/cells/data"
    assert [file.name for file in (data / "in").iterdir()] == ["image-1.tif"]
    assert tifffile.imread(data / "in/image-1.tif").sum() == 190
    assert not list((home / "data/cells").glob("omero-*.log"))
    run = run_of(home)
    assert (run.name, run.user, run.group, str(run.state)) == ("conversion", 7, 3, "done")


def test_a_failed_conversion_fails_the_script_with_the_end_of_the_log(home):
    (home / "data/cells/data/in/image-1.ome.zarr/0/.zarray").unlink()
    with pytest.raises(Permanent, match="ended as FAILED") as failed:
        convert()
    assert "image-1" in failed.value.detail
    assert str(run_of(home).state) == "failed"


def test_the_same_format_converts_nothing(home):
    assert "Nothing to convert" in convert(**{"Target format": "zarr"})
    assert not (home / "state").exists()


def test_the_folder_of_another_user_is_not_converted(home):
    with pytest.raises(RequestRejected, match="belongs to another user"):
        convert(ADA._replace(user=8))
    assert not (home / "state").exists()
