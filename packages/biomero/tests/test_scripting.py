"""What a programmer does in a shell, on a real cluster: send data, run a job, read state and log, fetch results."""

from __future__ import annotations

import shutil
import stat
import time
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select

from biomero import EngineManager, JobView, SlurmClient
from biomero.schema_parsers import DescriptorParserFactory, detect_schema_format
from biomero.slurm_client import SlurmJob
from biomeroworker.errors import RequestRejected

NASTY = 'it\'s $(touch /tmp/injected) "x" `id` ; exit 3\nnew line'


@pytest.fixture(scope="module")
def client(site):
    """The client that a script makes."""
    with SlurmClient.from_config(str(site.config)) as client:
        client.setup_slurm()
        yield client


@pytest.fixture
def data(client, tmp_path):
    """A folder of data as `run_workflow` takes it, on the cluster."""
    folder = tmp_path / f"it's {tmp_path.name}"
    (folder / "data/in/image-1.ome.zarr").mkdir(parents=True)
    (folder / "data/in/image-1.ome.zarr/.zgroup").write_text("{}")
    assert client.transfer_data(folder).remote == f"{client.deployment.cluster.remote_paths.data}/{folder.name}"
    return folder.name


def test_a_job_is_run_followed_and_cleaned_up(client, data, tmp_path):
    job = client.run_workflow_job("obedient", "v1.0.0", data, time="00:02:00", text=NASTY)
    assert isinstance(job, SlurmJob)
    assert job.ok
    assert str(job.job_id) in client.list_active_jobs() + client.list_all_jobs()
    job.slurm_polling_interval = 0.3

    class Omero:
        kept = 0

        def keepAlive(self):  # noqa: N802
            self.kept += 1

    assert job.wait_for_completion(client, Omero()) == "COMPLETED"
    assert job.completed()
    folder = client.extract_data_location_from_log(job.job_id)
    assert folder.endswith(f"/{data}")
    out = Path(folder) / "data/out/image-1_text.txt"
    assert out.read_text() == NASTY
    assert not Path("/tmp/injected").exists()
    _, log, _ = client.get_logfile_from_slurm(job.job_id, str(tmp_path))
    assert "working on" in Path(log).read_text()

    task = client.workflowTracker.repository.get(job.task_id)
    assert (task.task_name, task.job_ids, task.status) == ("obedient", [job.job_id], "COMPLETED")
    assert client.jobAccounting.get_task_id(job.job_id) == job.task_id
    deadline = time.monotonic() + 60  # accounting lags behind the queue
    while str(job.job_id) not in client.list_completed_jobs() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert str(job.job_id) in client.list_completed_jobs()

    assert job.cleanup(client).ok
    assert out.exists(), "the data may be the input of the next job"
    assert not list(Path(folder).glob("omero-*.log"))
    assert client.cleanup_tmp_files(job.job_id).ok
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_failing_container_makes_the_job_fail_although_it_left_files(client, data):
    job = client.run_workflow_job("obedient", "v1.0.0", data, exit=3)
    job.slurm_polling_interval = 0.3
    assert job.wait_for_completion(client, None) == "FAILED"
    assert not job.completed()
    client.cleanup_tmp_files(job.job_id)


def test_invalid_requests_are_refused_and_leave_no_open_task(client, data):
    with pytest.raises(RequestRejected, match="no such parameter"):
        client.run_workflow("obedient", "v1.0.0", data, nonsense=1)
    with pytest.raises(RequestRejected, match="data/in"):
        client.run_workflow("obedient", "v1.0.0", "nowhere")
    with pytest.raises(RequestRejected, match="time limit"):
        client.run_workflow("obedient", "v1.0.0", data, time="90-0")
    failed = client.workflowAnalytics.get_task_failures()[("obedient", "v1.0.0")]
    assert any("time limit" in error for error in failed)


@pytest.mark.parametrize("path", ["..", "/etc", "../../etc", ".", ""])
def test_nothing_outside_the_data_folder_is_removed(client, path):
    with pytest.raises(RequestRejected):
        client.cleanup_tmp_files(1, data_location=path or "/")


def test_the_folder_of_an_unknown_run_is_not_removed(client):
    with pytest.raises(RequestRejected, match="retention_days"):
        client.cleanup_tmp_files(1, data_location="biomero_860236c1-6578-4ae0-b12e-8f77a6854e73")


@pytest.mark.slow
def test_zipped_data_are_sent_and_results_are_fetched(client, site, tmp_path):
    # the machine has no 7z: a stand-in with the same arguments
    seven = Path(client.deployment.cluster.remote_paths.home) / "7z"
    seven.write_text(SEVEN)
    seven.chmod(seven.stat().st_mode | stat.S_IXOTH | stat.S_IXGRP | stat.S_IXUSR)
    settings = client.settings
    cluster = settings.default_cluster
    with_seven = cluster.slurm.model_copy(update={"slurm_zip_cmd": str(seven)})
    changed = cluster.model_copy(update={"slurm": with_seven})
    client = SlurmClient.from_settings(
        settings.model_copy(update={"clusters": settings.clusters | {cluster.name: changed}})
    )
    with zipfile.ZipFile(tmp_path / "my images.zip", "w") as archive:
        archive.writestr("a b.tif", "pixels")
    client.transfer_data(tmp_path / "my images.zip")
    assert "my images" in client.get_image_versions_and_data_files("obedient")[1]
    assert client.unpack_data("my images").ok
    data = Path(client.deployment.cluster.remote_paths.data)
    assert (data / "my images/data/in/a b.tif").read_text() == "pixels"
    (data / "my images/data/out/r.txt").write_text("result")
    client.zip_data_on_slurm_server("my images", "7_out")
    client.copy_zip_locally(str(tmp_path), "my images/7_out")
    assert zipfile.ZipFile(tmp_path / "7_out.zip").read("r.txt") == b"result"
    shutil.rmtree(data / "my images")


SEVEN = """#!/usr/bin/python3
import sys, zipfile, os
kind, words = sys.argv[1], [word for word in sys.argv[2:] if not word.startswith("-")]
if kind == "x":
    target = next(word[2:] for word in sys.argv if word.startswith("-o"))
    zipfile.ZipFile(words[0]).extractall(target)
else:
    with zipfile.ZipFile(words[0], "w") as archive:
        for name in os.listdir("."):
            archive.write(name)
"""


def test_workflows_are_described(client):
    assert client.get_workflow_images()["obedient"].endswith("lab/obedient:v1.0.0")
    assert "broken" not in client.slurm_model_images
    parameters = client.get_workflow_parameters("obedient")
    assert parameters["exit"] == {
        "name": "exit", "default": 0, "type": "integer", "optional": True, "cmd_flag": "--exit", "description": "exit",
        "file_attachment": False, "format": [], "minimum": 0.0, "maximum": 255.0,
    }  # fmt: skip
    (model,) = client.get_file_attachment_params("obedient").values()
    assert (model["name"], model["format"], model["file_attachment"]) == ("model", ["txt"], True)
    descriptor = client.generic_descriptor_from_github("obedient")
    assert descriptor["container-image"]["type"] == "oci"
    assert detect_schema_format(descriptor) == "biomero-schema"
    assert "exit" in [one.id for one in DescriptorParserFactory.parse_descriptor(descriptor).inputs]
    with pytest.raises(RequestRejected, match="is disabled"):
        client.get_workflow_parameters("broken")


def test_versions_are_those_on_the_cluster(client):
    versions, _ = client.get_image_versions_and_data_files("obedient")
    assert versions == ["v1.0.0"]
    assert client.get_all_image_versions_and_data_files()[0] == {"obedient": ["v1.0.0"]}, "broken is disabled"
    assert client.list_available_converter_versions() == {}
    with pytest.raises(ValueError, match="obedient"):
        client.get_image_versions_and_data_files("nonsense")


def test_a_job_that_slurm_does_not_know_is_unknown(client):
    found, answer = client.check_job_status([987654321])
    assert found == {987654321: "UNKNOWN"}
    assert answer.ok


def test_the_client_runs_commands(client):
    assert client.run("echo hello", hide=True, in_stream=False).stdout.strip() == "hello"


def test_the_tables_can_be_queried_by_their_classes(client, tmp_path):
    EngineManager.create_scoped_session(f"sqlite:///{tmp_path}/new.db")
    try:
        assert EngineManager.get_session().execute(select(JobView)).all() == []
        EngineManager.create_scoped_session(client.settings.database_url)
        tracker = client.workflowTracker
        run_id = tracker.initiate_workflow("shell", "a query", 5, 7)
        task_id = tracker.add_task_to_workflow(run_id, "obedient", "v1.0.0", "in", {})
        tracker.start_task(task_id)
        tracker.add_job_id(task_id, 4711)
        found = EngineManager.get_session().execute(select(JobView).where(JobView.task_id == task_id)).scalars().all()
        assert [(job.slurm_job_id, job.user, job.group) for job in found] == [(4711, 5, 7)]
    finally:
        EngineManager.close_engine()
