"""The steps of a script of old, one after the other, on a cluster in a folder whose sbatch runs the job at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from biomero import SlurmClient
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.errors import RequestRejected
from tests.fakes.runtime import FakeRuntime
from tests.fakes.transport import FakeTransport

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
echo "7_N/A|$(cat "$HOME/state")"
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
    ini = tmp_path / "slurm.ini"
    ini.write_text(
        "[SLURM]\nslurm_script_path = jobs\nslurm_conversion_partition = short\nsbatch_mem = 1G\n"
        f"[ANALYTICS]\nsqlalchemy_url = sqlite:///{tmp_path}/log.sqlite\nanalytics_rebuild_days_ago = 3\n"
    )
    with SlurmClient.from_config(str(ini)) as client:
        yield client


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "it's mine"
    array = folder / "data/in/image-1.ome.zarr"
    zarr.open_group(array, mode="w", zarr_format=2).attrs.update({"multiscales": [{"datasets": [{"path": "0"}]}]})
    zarr.save_array(str(array / "0"), np.arange(20, dtype="uint16").reshape(1, 1, 1, 4, 5), zarr_format=2)
    return folder


def test_images_are_brought_converted_and_told_of(client: SlurmClient, images: Path, home: Path) -> None:
    assert client.validate()
    client.setup_job_scripts()
    assert client.update_slurm_scripts(generate_jobs=True).ok
    client.transfer_data(images)
    job = client.run_conversion_workflow_job(images.name)
    assert (job.ok, job.get_error()) == (True, "")
    assert job.wait_for_completion(client, None) == "COMPLETED"
    data = home / "data" / images.name / "data"
    assert [file.name for file in (data / "in").iterdir()] == ["image-1.tif"]
    assert tifffile.imread(data / "in/image-1.tif").sum() == 190
    assert [file.name for file in (data / "zarr").iterdir()] == ["image-1.ome.zarr"]
    options = (home / "options").read_text().split()
    assert {"--partition=short", "--mem=1G", "--job-name=omero-job-conversion"} <= set(options)
    _, log, _ = client.get_conversion_logfile_from_slurm(job.job_id, str(images.parent))
    assert "image-1.tif: TCZYX" in Path(log).read_text()
    task = client.workflowTracker.repository.get(job.task_id)
    assert (task.task_name, task.job_ids, task.status) == ("convert_zarr_to_tiff", [7], "COMPLETED")
    client.bring_listener_uptodate(client.wfProgress)


def test_what_cannot_be_converted_stays_as_it_is(client: SlurmClient, images: Path, home: Path) -> None:
    (images / "data/in/image-1.ome.zarr/0/.zarray").unlink()
    client.transfer_data(images)
    job = client.run_conversion_workflow_job(images.name)
    assert job.wait_for_completion(client, None) == "FAILED"
    data = home / "data" / images.name / "data"
    assert [file.name for file in (data / "in").iterdir()] == ["image-1.ome.zarr"]


def test_a_conversion_that_is_not_taken_is_not_ok_and_says_why(
    client: SlurmClient, images: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.transfer_data(images)
    monkeypatch.setitem(client.deployment.cluster.transport._environment, "REFUSE", "1")  # type: ignore[attr-defined]
    refused = client.run_conversion_workflow_job(images.name)
    assert (refused.ok, refused.job_id) == (False, -1)
    assert "invalid partition" in refused.get_error()
    nowhere = client.run_conversion_workflow_job("nowhere")
    assert (nowhere.ok, [one.name for one in (home / "data").iterdir()]) == (False, [images.name])
    with pytest.raises(RequestRejected, match="no converter from tiff to zarr"):
        client.run_conversion_workflow_job(images.name, "tiff", "zarr")


def test_settings_have_the_names_that_scripts_know(client: SlurmClient) -> None:
    assert (client.slurm_script_path, client.slurm_conversion_partition) == ("jobs", "short")
    assert (client.image_pull_cpus, client.gpu_gres, client.env_file_submission) == ("8", None, False)
    assert client.analytics_rebuild_days_ago == 3
    assert not hasattr(client, "workflow_params_to_subs")
