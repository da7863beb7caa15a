"""Constructing a client, its settings as attributes, and the ini files that it names."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from paramiko.ssh_exception import SSHException

from biomero import NoOpWorkflowTracker, SlurmClient, WorkflowTracker
from biomeroworker.errors import ConfigError, RequestRejected, Transient


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SQLALCHEMY_URL", "BIOMERO_SLURM_CONFIG_FILE", "BIOMERO_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/log.sqlite"


def test_all_arguments_become_settings(tmp_path: Path) -> None:
    client = SlurmClient(
        host="cluster", user="ada", port=2222, slurm_data_path="/data", slurm_model_paths={"cells": "seg/cells"},
        slurm_model_repos={"cells": "https://github.com/lab/cells", "more": "/some/where"},
        slurm_model_images={"cells": "lab/cells"}, slurm_model_jobs={"cells": "jobs/c.sh"},
        slurm_model_jobs_params={"cells": [" --mem=15GB", " --exclusive"]}, slurm_model_use_gpu={"cells": True},
        converter_images={"zarr_to_tiff": "lab/convert:1"}, slurm_global_job_params=[" --account=lab"],
        sqlalchemy_url=url(tmp_path), sacct_days_ago=3, gpu_gres="gpu:1", track_workflows=False,
        analytics_rebuild_days_ago=7, slurm_zip_cmd="7z", config_only=True,
    )  # fmt: skip
    assert client.settings.default_cluster.ssh.host == "ssh://ada@cluster:2222"
    assert (client.host, client.user, client.port) == ("cluster", "ada", 2222)
    assert (client.slurm_data_path, client.slurm_images_path) == (
        "/data",
        "my-scratch/singularity_images/workflows",
    )
    assert client.slurm_model_paths == {"cells": "seg/cells", "more": "more"}
    assert client.slurm_model_repos == {"cells": "https://github.com/lab/cells", "more": "/some/where"}
    assert client.slurm_model_jobs == {"cells": "jobs/c.sh", "more": "jobs/more.sh"}
    assert client.slurm_model_jobs_params == {"cells": [" --mem=15GB", " --exclusive=true"], "more": []}
    assert client.slurm_model_use_gpu == {"cells": True, "more": False}
    assert client.slurm_model_images["cells"] == "lab/cells"
    assert client.converter_images == {"zarr_to_tiff": "lab/convert:1"}
    assert client.slurm_global_job_params == [" --account=lab"]
    assert (client.sacct_days_ago, client.gpu_gres, client.slurm_zip_cmd) == (3, "gpu:1", "7z")
    assert (client.track_workflows, client.analytics_rebuild_days_ago) == (False, 7)
    assert client.sqlalchemy_url == url(tmp_path)


def test_constructing_reads_no_file_connects_to_nothing_and_makes_no_table(tmp_path: Path) -> None:
    (tmp_path / "slurm-config.ini").write_text("[SLURM]\nslurm_data_path = /from/file\n")
    client = SlurmClient(sqlalchemy_url=url(tmp_path))
    assert client.slurm_data_path == "my-scratch/data"
    assert not client.is_connected
    assert [one.name for one in tmp_path.iterdir()] == ["slurm-config.ini"]


def test_the_databases_url_in_the_environment_has_precedence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SQLALCHEMY_URL", url(tmp_path))
    assert SlurmClient(sqlalchemy_url="sqlite:///other").sqlalchemy_url == url(tmp_path)


def test_a_wrong_argument_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="gpu_gres and gpu_gpus"):
        SlurmClient(gpu_gres="gpu:1", gpu_gpus="1")
    with pytest.raises(ConfigError, match="sacct_days_ago"):
        SlurmClient(sacct_days_ago=-1)


def test_attributes_can_be_set_and_take_effect(client: SlurmClient, tmp_path: Path) -> None:
    client.slurm_data_path = "elsewhere"
    client.analytics_rebuild_days_ago = 5
    client.slurm_model_repos = {"new": "/there"}
    client.slurm_model_jobs_params = {"new": [" --mem=2G"]}
    client.slurm_global_job_params = [" --account=lab"]
    client.converter_images = client.slurm_model_images = client.slurm_model_jobs = None
    client.sqlalchemy_url = url(tmp_path / "new")
    assert client.deployment.settings.default_cluster.slurm.slurm_data_path == "elsewhere"
    assert client.analytics_rebuild_days_ago == 5
    assert client.settings.workflows["new"].repo == "/there"
    assert client.converter_images == {}
    assert client.settings.workflows["new"].job_params == {"mem": "2G"}
    assert client.settings.workflows["count"].path == "count"
    assert client.settings.default_cluster.slurm.sbatch == {"account": "lab"}
    client.workflowTracker.initiate_workflow("a", "b", 1, 2)
    assert (tmp_path / "new" / "log.sqlite").exists()
    with pytest.raises(ValueError, match="sacct_days_ago"):
        client.sacct_days_ago = -1


def test_without_tracking_steps_are_not_recorded(client: SlurmClient, home: Path, tmp_path: Path) -> None:
    client.track_workflows = False
    assert isinstance(client.workflowTracker, NoOpWorkflowTracker)
    (home / "data/cells/data/in").mkdir(parents=True)
    result, job_id, wf_id, task_id = client.run_workflow("count", "v1", "cells")
    assert (result.ok, job_id, wf_id, task_id) == (True, 7, None, None)
    client.bring_listener_uptodate(client.wfProgress, 3)
    assert not (tmp_path / "log.sqlite").exists()
    client.track_workflows, client.enable_job_accounting = True, False
    assert isinstance(client.workflowTracker, WorkflowTracker)
    assert isinstance(client.jobAccounting, NoOpWorkflowTracker)


def test_the_files_of_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "slurm-config.ini"
    home.write_text("\ufeff[WORKFLOWS]\ncells = cells\n[SLURM]\nslurm_zip_cmd = 100%\nslurm_data_path = /home\n")
    named = tmp_path / "named.ini"
    named.write_text("[WORKFLOWS]\nnamed = named\n")
    assert SlurmClient.get_config_paths("~/named.ini")[2:] == [str(home), str(named)]
    assert SlurmClient.get_config_write_path() == str(home)
    assert SlurmClient.get_authoritative_config_path() is None
    config = SlurmClient.load_config(str(named))
    assert dict(config.items("WORKFLOWS")) == {"cells": "cells", "named": "named"}
    assert config.get("SLURM", "slurm_zip_cmd") == "100%"
    assert set(SlurmClient.from_config(str(named)).slurm_model_paths) == {"cells", "named"}


def test_one_file_may_replace_all_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "slurm-config.ini").write_text("[SLURM]\nslurm_data_path = /home\n[WORKFLOWS]\ncells = cells\n")
    (tmp_path / "named.ini").write_text("[WORKFLOWS]\nnamed = named\n")
    alone = tmp_path / "alone.ini"
    alone.write_text("[WORKFLOWS]\nalone = alone\n")
    monkeypatch.setenv("BIOMERO_SLURM_CONFIG_FILE", str(alone))
    client = SlurmClient.from_config(str(tmp_path / "named.ini"))
    assert (set(client.slurm_model_paths), client.slurm_data_path) == ({"alone"}, "my-scratch/data")
    assert SlurmClient.get_config_paths(str(tmp_path / "named.ini")) == [str(alone)]
    assert SlurmClient.get_config_write_path() == str(alone)
    assert SlurmClient.load_config().sections() == ["WORKFLOWS"]


def test_errors_are_also_those_that_old_programs_catch(client: SlurmClient, home: Path) -> None:
    with pytest.raises(SSHException) as caught:
        client.run_workflow("count", "v1", "nowhere")
    assert isinstance(caught.value, RequestRejected)
    with pytest.raises(ValueError, match="no workflow"):
        client.get_workflow_parameters("nonsense")
    client.deployment.cluster.transport.fail(Transient("link down", hint="wait"))  # type: ignore[attr-defined]
    with pytest.raises(SSHException) as fault:
        client.check_job_status([7])
    assert isinstance(fault.value, Transient)
    assert (str(fault.value), fault.value.hint) == ("link down", "wait")


def test_clients_in_threads_do_not_close_each_others_engines(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    open_before = SlurmClient(sqlalchemy_url=url(tmp_path))

    def work() -> None:
        try:
            with SlurmClient(sqlalchemy_url=url(tmp_path)) as client:
                run = client.workflowTracker.initiate_workflow("a", "b", 1, 2)
                client.workflowTracker.complete_workflow(run)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert len(open_before.log.runs()) == 6


def test_validate_says_no_when_the_set_up_fails(client: SlurmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.validate(True)
    monkeypatch.setattr(client.deployment, "provision", lambda report: (_ for _ in ()).throw(Transient("away")))
    assert client.validate(True) is False
