import pytest

from biomeroworker.config import Settings
from biomeroworker.engine import job
from biomeroworker.errors import ConfigError, Refused
from biomeroworker.source import RunRequest


def settings(tmp_path, slurm="", workflow=""):
    config = tmp_path / "slurm-config.ini"
    config.write_text(f"[SLURM]\n{slurm}\n[WORKFLOWS]\nnuclei = nuclei\nnuclei_repo = /here\n{workflow}\n")
    return Settings.load(config, {"HOME": str(tmp_path)})


def request(**options):
    return RunRequest(workflow="nuclei", source="folder", inputs={}, job_options=options)


def test_each_layer_wins_over_the_one_before(tmp_path):
    site = settings(
        tmp_path,
        "sbatch_mem = 1G\nsbatch_account = imaging\n"
        "slurm_default_partition = cpu\ngpu_partition = gpu\ngpu_gres = gpu:1",
        "nuclei_job_mem = 2G\nnuclei_job_cpus_per_task = 8\nnuclei_use_gpu = true",
    )
    found = job.options(site, request(time="01:00:00", account="special"))
    assert found == {
        "time": "01:00:00",
        "cpus-per-task": "8",
        "mem": "2G",
        "account": "special",
        "partition": "gpu",
        "gres": "gpu:1",
    }


def test_nodes_that_failed_are_excluded_besides_those_of_the_site(tmp_path):
    site = job.options(settings(tmp_path, "sbatch_exclude = a,b"), request())
    assert job.excluding(site, ["c", "a"])["exclude"] == "a,b,c"
    assert "exclude" not in job.excluding({"time": "1"}, [])


@pytest.mark.parametrize("name", ["output", "outpu", "chdi", "wra", "export-file", "uid", "test-only", "job-name", ""])
def test_a_run_may_not_ask_for_what_touches_files_or_its_identity(tmp_path, name):
    with pytest.raises(Refused, match="may not ask sbatch"):
        job.check(settings(tmp_path), request(**{name: "/home/svc/.bashrc"}))


@pytest.mark.parametrize("name", ["output", "outpu", "wrap", "test-only", "job_name"])
def test_a_site_may_not_set_them_either(tmp_path, name):
    with pytest.raises(ConfigError, match="biomeroworker's own"):
        job.check(settings(tmp_path, f"sbatch_{name} = x"), request())


def test_what_a_site_needs_is_not_forbidden(tmp_path):
    site = settings(tmp_path, "sbatch_licenses = a:1\nsbatch_exclusive =\nsbatch_mem = 1G", "nuclei_job_nodes = 1")
    job.check(site, request(time="10", mem="1G", **{"cpus-per-task": "2"}))
