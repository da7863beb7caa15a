"""Jobs as old scripts use them: state words, logs, clean-up, paths of data."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from invoke import Result

from biomero import SlurmClient
from biomero.compat import jobs
from biomero.slurm_client import SlurmJob
from biomeroworker.errors import RequestRejected


@pytest.fixture
def data(home: Path) -> Path:
    folder = home / "data" / "cells"
    (folder / "data/in").mkdir(parents=True)
    (folder / "data/in/a.tif").write_text("pixels")
    return folder


@pytest.fixture
def job(client: SlurmClient, data: Path) -> SlurmJob:
    return client.run_workflow_job("count", "v1", "cells", size=3)


def test_cleanup_with_a_log_and_no_data_location_removes_logs_only(
    client: SlurmClient, job: SlurmJob, data: Path
) -> None:
    for name in ("omero-7_1.log", "other.log", "omero-70.log"):
        (data / name).write_text("text")
    assert (data / "omero-7.log").exists()
    assert job.cleanup(client).ok
    assert sorted(one.name for one in data.glob("*.log")) == ["omero-70.log", "other.log"]
    assert (data / "data/in/a.tif").read_text() == "pixels"
    assert client.cleanup_tmp_files(7, logfile=f"{data}/other.log").ok
    assert [one.name for one in data.glob("*.log")] == ["omero-70.log"]
    assert (data / "data/in").is_dir()


def test_cleanup_of_logs_of_a_job_that_slurm_forgot_is_no_error(client: SlurmClient, job: SlurmJob, home: Path) -> None:
    (home / "workdir").write_text("")
    assert job.cleanup(client).ok


def test_cleanup_with_a_data_location_removes_the_data(client: SlurmClient, job: SlurmJob, data: Path) -> None:
    (data.parent / "cells.zip").write_text("zip")
    assert client.cleanup_tmp_files(7, "cells/7_out", str(data), "omero-7.log").ok
    assert list(data.parent.iterdir()) == []


def test_the_folder_of_a_run_that_a_script_recorded_can_be_removed(
    client: SlurmClient, job: SlurmJob, home: Path
) -> None:
    recorded = client.workflowTracker.initiate_workflow("Slurm Workflow", "d", 1, 2)
    accepted = client.log.accept({"workflow": "count"}, name="count", description="count", user=1, group=2)
    folders = {name: home / "data" / f"biomero_{name}" for name in (recorded, accepted, uuid4(), "mine")}
    for folder in folders.values():
        folder.mkdir()
    assert client.cleanup_tmp_files(7, data_location=str(folders[recorded]), logfile="omero-7.log").ok
    assert client.cleanup_tmp_files(7, data_location="biomero_mine").ok
    left = [folder for folder in folders.values() if folder.exists()]
    assert len(left) == 2
    for folder in left:  # of a run that a supervisor executes, and of a run that this log does not know
        with pytest.raises(RequestRejected, match="retention_days"):
            client.cleanup_tmp_files(7, data_location=str(folder))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("COMPLETING", "RUNNING"), ("CONFIGURING", "RUNNING"), ("SUSPENDED", "RUNNING"), ("STAGE_OUT", "RUNNING"),
        ("REQUEUED", "PENDING"), ("SPECIAL_EXIT", "PENDING"), ("CANCELLED by 2001", "CANCELLED"),
        ("OUT_OF_ME+", "UNKNOWN"), ("COMPLETED+", "COMPLETED"), ("DEADLINE", "DEADLINE"), ("BOOT_FAIL", "BOOT_FAIL"),
        ("LAUNCH_FAILED", "FAILED"), ("REVOKED", "CANCELLED"),
    ],
)  # fmt: skip
def test_states_are_words_of_sacct(client: SlurmClient, home: Path, word: str, expected: str) -> None:
    (home / "state").write_text(word)
    assert client.check_job_status([7])[0] == {7: expected}
    assert client.check_job_status(["7"])[0] == {"7": expected}  # type: ignore[list-item]


def test_a_job_that_was_submitted_here_is_pending_until_accounting_knows_it(
    client: SlurmClient, job: SlurmJob, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "state").unlink()
    assert client.check_job_status([7])[0] == {7: "PENDING"}
    monkeypatch.setattr(jobs, "UNKNOWN_GRACE_SECONDS", 0.0)
    assert client.check_job_status([7, 8])[0] == {7: "UNKNOWN", 8: "UNKNOWN"}


def test_a_log_is_fetched_by_its_path_where_no_job_is_given(client: SlurmClient, home: Path, tmp_path: Path) -> None:
    (home / "images/sing.log").write_text("pulled")
    folder, file, transfer = client.get_logfile_from_slurm(
        slurm_job_id="", local_tmp_storage=str(tmp_path), logfile=f"{client.slurm_images_path}/sing.log"
    )
    assert (folder, Path(file).read_text()) == (str(tmp_path), "pulled")
    assert transfer.__dict__["remote"] == "images/sing.log"
    with pytest.raises(FileNotFoundError):
        client.get_logfile_from_slurm("", str(tmp_path), "images/none.log")
    with pytest.raises(RequestRejected, match="path of a log"):
        client.get_logfile_from_slurm("", str(tmp_path))


def test_a_truncated_state_still_counts_as_completed() -> None:
    job = SlurmJob(Result(), 7, None, None)
    job.job_state = "COMPLETED+"
    assert job.completed()


@pytest.mark.parametrize("name", ["cells", "data/cells", "~/data/cells"])
def test_data_are_given_by_name_or_by_a_path_from_the_home_folder(client: SlurmClient, data: Path, name: str) -> None:
    command = client.get_zip_command(name, "7_out")
    assert command.startswith(f"cd {data}/data/out && ")
    assert f" {data}/7_out.zip " in command


def test_data_behind_a_symbolic_link_are_found_by_their_real_path(
    client: SlurmClient, home: Path, tmp_path: Path
) -> None:
    real = tmp_path / "volume"
    (real / "cells/data/out").mkdir(parents=True)
    (home / "data").symlink_to(real)
    assert f"{home}/data/cells/7_out.zip" in client.get_zip_command(f"{real}/cells", "7_out")
    with pytest.raises(RequestRejected, match="not below the data folder"):
        client.get_zip_command(f"{tmp_path}/elsewhere", "7_out")


def test_a_file_parameter_is_a_path_from_the_home_folder(client: SlurmClient, data: Path) -> None:
    job = client.run_workflow_job("count", "v1", "cells", model="data/cells/data/in/p1/model.h5")
    words = (data / f".biomero-{job.task_id}/words").read_bytes().split(b"\0")
    assert f"--model={data}/data/in/p1/model.h5".encode() in words


def test_init_leaves_a_job_script_and_keeps_the_one_that_is_there(client: SlurmClient, home: Path) -> None:
    script = home / "jobs/jobs/count.sh"
    client.setup_job_scripts()
    assert client.slurm_model_jobs == {"count": "jobs/count.sh"}
    assert script.read_text().startswith("#!/bin/bash\n")
    script.write_text("of the site")
    assert client.update_slurm_scripts(generate_jobs=True).ok
    assert script.read_text() == "of the site"
    script.unlink()
    client.setup_slurm()
    assert script.exists()


def test_a_job_is_waited_for_by_its_id_with_the_arguments_of_later_versions(
    client: SlurmClient, job: SlurmJob, home: Path
) -> None:
    calls: list[int] = []
    found = SlurmJob.from_job_id("7", slurm_polling_interval=0.01)
    state = found.wait_for_completion(client, heartbeat=lambda: calls.append(1), track_progress=False)
    assert (state, found.completed(), calls, found.ok) == ("COMPLETED", True, [1], True)
    (home / "state").unlink()
    with pytest.raises(RuntimeError, match="unknown"):
        SlurmJob.from_job_id(8).wait_for_completion(client, strict_status=True)
    assert SlurmJob.is_terminal("CANCELLED by 5")
    assert not SlurmJob.is_terminal("RUNNING")


def test_the_command_of_a_workflow_submits_its_job(client: SlurmClient, data: Path, home: Path) -> None:
    line, env = client.get_workflow_command("count", "v1", "cells", time="00:10:00", size=3)
    assert env == {}
    assert client.deployment.cluster.transport.run(["bash", "-c", line]).stdout.strip() == "7"
    (words,) = [file.read_bytes().split(b"\0") for file in data.glob(".biomero-*/words")]
    assert b"--size=3" in words
    assert "--time=00:10:00" in (home / "options").read_text().splitlines()


def test_the_steps_of_the_check_of_the_set_up(client: SlurmClient, home: Path, tmp_path: Path) -> None:
    """What an administrator's script asks for, in its order."""
    client.setup_slurm()
    assert client.validate()
    assert "SlurmClient" in str(client)
    models, data = client.get_all_image_versions_and_data_files()
    assert (models, data) == ({"count": ["v1"]}, [])
    for repo in client.slurm_model_repos.values():
        assert client.extract_parts_from_url(repo)[1] == "master"
    assert client.list_available_converter_versions() == {"zarr_to_tiff": ["v1"]}
    folder, _, result = client.get_logfile_from_slurm(
        slurm_job_id="", local_tmp_storage=str(tmp_path), logfile=f"{client.slurm_images_path}/sing.log"
    )
    assert result.__dict__
    lines = (Path(folder) / "sing.log").read_text().splitlines()
    assert lines[0].startswith("count: ")
    assert "v1" in lines[0]


def test_the_log_names_the_data_folder_in_the_line_that_old_scripts_search(
    client: SlurmClient, job: SlurmJob, data: Path, tmp_path: Path
) -> None:
    _, log, _ = client.get_logfile_from_slurm(job.job_id, str(tmp_path))
    line = Path(log).read_text().splitlines()[0]
    found = re.match(r"Running [\w-]+? Job w\/ .+? \| .+? \| (?P<DATA_PATH>.+?) \|.*", line)
    assert found
    assert found["DATA_PATH"] == str(data) == client.extract_data_location_from_log(job.job_id)


@pytest.mark.parametrize("name", ["7_out", "{folder}/7_out"])
def test_results_are_packed_and_fetched_by_name_or_by_path(
    client: SlurmClient, job: SlurmJob, data: Path, tmp_path: Path, name: str
) -> None:
    packer = tmp_path / "packer"  # in place of 7z a -y TARGET -tzip .
    packer.write_text('#!/bin/sh\ntar -cf "$3" "$5"\n')
    packer.chmod(0o755)
    client.slurm_zip_cmd = str(packer)
    folder = client.extract_data_location_from_log(job.job_id)
    assert client.zip_data_on_slurm_server(folder, "7_out").ok
    client.copy_zip_locally(str(tmp_path), name.format(folder=folder))
    assert (tmp_path / "7_out.zip").read_bytes() == (data / "7_out.zip").read_bytes()


@pytest.mark.skipif(not shutil.which("zip") or not shutil.which("unzip"), reason="needs zip and unzip")
def test_info_zip_unpacks_and_packs_too(client: SlurmClient, home: Path, tmp_path: Path) -> None:
    client.slurm_zip_cmd = str(shutil.which("zip"))
    with zipfile.ZipFile(tmp_path / "my cells.zip", "w") as archive:
        for name in ("image.ome.zarr/.zgroup", "image.ome.zarr/0/0/0", "a b.tif", "notes.txt"):
            archive.writestr(name, name)
    client.transfer_data(tmp_path / "my cells.zip")
    assert client.unpack_data("my cells").ok
    data = home / "data/my cells/data"
    found = sorted(str(file.relative_to(data / "in")) for file in (data / "in").rglob("*") if file.is_file())
    assert found == ["a b.tif", "image.ome.zarr/.zgroup", "image.ome.zarr/0/0/0"]
    (data / "out/r.csv").write_text("1")
    assert client.zip_data_on_slurm_server("my cells", "7_out").ok
    client.copy_zip_locally(str(tmp_path), "7_out")
    assert zipfile.ZipFile(tmp_path / "7_out.zip").read("r.csv") == b"1"


def test_a_dialog_of_all_workflows_opens_although_one_is_broken(client: SlurmClient, tmp_path: Path) -> None:
    """Old scripts declare fields for each workflow of which there are versions, before anything is chosen."""
    (tmp_path / "broken.json").write_text('{"name": "broken"')
    ini = tmp_path / "slurm.ini"
    ini.write_text(f"{ini.read_text()}broken = broken\nbroken_repo = {tmp_path}/broken.json\n")
    fields: dict[str, list[str]] = {}
    with SlurmClient.from_config(str(ini)) as other:
        for workflow in other.get_all_image_versions_and_data_files()[0]:
            assert other.generic_descriptor_from_github(workflow)["description"]
            for one in other.get_workflow_parameters(workflow).values():
                made = other.convert_param_type_to_omtype(
                    one["type"], one["default"], one["name"], description=one["description"], default=one["default"],
                    grouping="03.1", optional=True,
                )  # fmt: skip
                kind = "file" if one["file_attachment"] else type(made).__name__
                fields.setdefault(workflow, []).append(f"{made._name}: {kind}")
        assert "broken" in other.slurm_model_repos, "scripts show it as pending"
    assert fields == {"count": ["size: Float", "model: file"]}


def test_the_result_of_a_command_with_an_environment_as_text_is_recorded(client: SlurmClient) -> None:
    tracker = client.workflowTracker
    task = tracker.add_task_to_workflow(tracker.initiate_workflow("n", "d", 1, 2), "t", "v1", {}, {})
    tracker.add_result(task, SimpleNamespace(command="ls", env="PASS=SECRET", stdout="out", stderr=""))
    (result,) = tracker.repository.get(task).results
    assert (result["stdout"], result["env"]) == ("out", {})
