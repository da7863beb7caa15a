"""The steps of an old script, one after the other, on a cluster that is a folder; its sbatch runs the job at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from biomero import SlurmClient
from biomeroworker.errors import RequestRejected


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "it's mine"
    array = folder / "data/in/image-1.ome.zarr"
    zarr.open_group(array, mode="w", zarr_format=2).attrs.update({"multiscales": [{"datasets": [{"path": "0"}]}]})
    zarr.save_array(str(array / "0"), np.arange(20, dtype="uint16").reshape(1, 1, 1, 4, 5), zarr_format=2)
    return folder


def test_images_are_sent_and_converted_and_the_task_is_recorded(client: SlurmClient, images: Path, home: Path) -> None:
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


def test_a_conversion_is_submitted_by_its_line_of_shell(client: SlurmClient, images: Path, home: Path) -> None:
    client.transfer_data(images)
    line, env, converter, version = client.get_conversion_command(f"data/{images.name}", "config.txt", "zarr", "tiff")
    assert (env, converter, version) == ({}, "convert_zarr_to_tiff", "v1")
    assert client.deployment.cluster.transport.run(["bash", "-c", line]).stdout.strip() == "7"
    data = home / "data" / images.name / "data"
    assert [file.name for file in (data / "in").iterdir()] == ["image-1.tif"]
    assert "--job-name=omero-job-conversion" in (home / "options").read_text().split()


def test_images_that_cannot_be_converted_are_not_changed(client: SlurmClient, images: Path, home: Path) -> None:
    (images / "data/in/image-1.ome.zarr/0/.zarray").unlink()
    client.transfer_data(images)
    job = client.run_conversion_workflow_job(images.name)
    assert job.wait_for_completion(client, None) == "FAILED"
    data = home / "data" / images.name / "data"
    assert [file.name for file in (data / "in").iterdir()] == ["image-1.ome.zarr"]


def test_a_rejected_conversion_is_not_ok_and_has_the_reason(
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
