import pytest

from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning import job_options
from biomeroworker.errors import ConfigError, RequestRejected


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
    found = job_options.options(site, request(time="01:00:00", account="special"))
    assert found == {
        "time": "01:00:00",
        "cpus-per-task": "8",
        "mem": "2G",
        "account": "special",
        "partition": "gpu",
        "gres": "gpu:1",
    }


def test_nodes_that_failed_are_excluded_besides_those_of_the_site(tmp_path):
    site = job_options.options(settings(tmp_path, "sbatch_exclude = a,b"), request())
    assert job_options.excluding(site, ["c", "a"])["exclude"] == "a,b,c"
    assert "exclude" not in job_options.excluding({"time": "1"}, [])


@pytest.mark.parametrize("name", ["output", "outpu", "chdi", "wra", "export-file", "uid", "test-only", "job-name", ""])
def test_a_run_may_not_set_options_for_files_or_its_identity(tmp_path, name):
    with pytest.raises(RequestRejected, match="may not set sbatch"):
        job_options.check(settings(tmp_path), request(**{name: "/home/svc/.bashrc"}))


@pytest.mark.parametrize("name", ["output", "outpu", "wrap", "test-only", "job_name"])
def test_a_site_may_not_set_these_options(tmp_path, name):
    with pytest.raises(
        ConfigError, match=r"ini:2: \[SLURM\] sbatch_.*(reserved for biomeroworker|must be written in full)"
    ):
        job_options.check(settings(tmp_path, f"sbatch_{name} = x"), request())


def test_a_site_may_set_the_options_that_it_needs(tmp_path):
    site = settings(tmp_path, "sbatch_licenses = a:1\nsbatch_exclusive =\nsbatch_mem = 1G", "nuclei_job_nodes = 1")
    job_options.check(site, request(time="10", mem="1G", **{"cpus-per-task": "2"}))


def test_a_flag_without_a_value_is_true_in_the_ini_and_false_takes_it_back(tmp_path):
    site = settings(tmp_path, "sbatch_requeue = true\nsbatch_exclusive = user", "nuclei_job_requeue = no")
    found = job_options.options(site, request(nice=""))
    assert "requeue" not in found
    assert (found["exclusive"], found["nice"]) == ("user", "")
    assert job_options.options(settings(tmp_path, "sbatch_contiguous = yes"), request())["contiguous"] == ""


@pytest.mark.parametrize(
    ("slurm", "workflow", "removed", "expected"),
    [
        ("sbatch_mem-per-cpu = 2G", "", "mem", {"mem-per-cpu": "2G"}),
        ("gpu_gres = gpu:a100:1", "nuclei_use_gpu = true\nnuclei_job_gpus = 2", "gres", {"gpus": "2"}),
        ("gpu_gpus = 1", "nuclei_use_gpu = true\nnuclei_job_gres = gpu:2", "gpus", {"gres": "gpu:2"}),
        ("sbatch_gres = lustre:1", "nuclei_job_gpus = 2", "-", {"gpus": "2", "gres": "lustre:1"}),
        ("sbatch_requeue = true", "nuclei_job_no-requeue = true", "requeue", {"no-requeue": ""}),
        ("", "nuclei_job_cpus_per_gpu = 3", "cpus-per-task", {"cpus-per-gpu": "3"}),
    ],
)
def test_of_two_exclusive_options_the_stronger_layer_s_is_used(tmp_path, slurm, workflow, removed, expected):
    found = job_options.options(settings(tmp_path, slurm, workflow), request())
    assert removed not in found
    assert expected.items() <= found.items()


def test_a_job_that_depends_on_what_failed_does_not_wait_for_ever(tmp_path):
    site = settings(tmp_path, workflow="nuclei_job_dependency = afterok:12:13_4")
    job_options.check(site, request())
    found = job_options.options(site, request())
    assert (found["dependency"], found["kill-on-invalid-dep"]) == ("afterok:12:13_4", "yes")
    with pytest.raises(RequestRejected, match="afterok"):
        job_options.check(settings(tmp_path), request(dependency="expand:99"))


@pytest.mark.parametrize(
    "line", ["sbatch_part = cpu", "sbatch_clusters = other", "sbatch_accoun = x", "sbatch_get-user-env = true"]
)
def test_what_sbatch_would_take_for_something_else_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(ConfigError, match=r"slurm-config\.ini:2: \[SLURM\] sbatch_"):
        job_options.check(settings(tmp_path, line), request())


def test_an_option_of_a_newer_slurm_is_passed_on(tmp_path):
    site = settings(tmp_path, "sbatch_quantum-bits = 3")
    job_options.check(site, request())
    assert job_options.options(site, request())["quantum-bits"] == "3"


ACCOUNTS = '[ACCOUNTS]\ngroup.Cell Lab = cell\nuser.ada = ada-own\ngroup."a: b=c" = odd\n'


@pytest.mark.parametrize(
    ("user", "group", "account"),
    [
        ("bob", "Cell Lab", "cell"),
        ("ada", "Cell Lab", "ada-own"),
        ("bob", "a: b=c", "odd"),
        ("bob", "cell lab", "pool"),
    ],
)
def test_the_account_is_the_user_s_or_the_group_s_or_the_site_s(tmp_path, user, group, account):
    site = settings(tmp_path, "sbatch_account = pool", f"nuclei_job_account = pool\n{ACCOUNTS}")
    run_request = RunRequest(workflow="nuclei", source="omero", inputs={}, user_name=user, group_name=group)
    job_options.check(site, run_request)
    assert job_options.options(site, run_request)["account"] == account


def test_a_group_without_an_account_is_refused_where_the_site_requires_one(tmp_path):
    site = settings(tmp_path, "sbatch_account = pool", f"{ACCOUNTS}required = true")
    run_request = RunRequest(workflow="nuclei", source="omero", inputs={}, user_name="bob", group_name="Cell lab")
    with pytest.raises(RequestRejected, match=r"\[ACCOUNTS\] group\.Cell lab = <account>"):
        job_options.check(site, run_request)
    with pytest.raises(RequestRejected):
        job_options.options(site, run_request)


def test_a_run_does_not_choose_its_account_where_the_site_does(tmp_path):
    site = settings(tmp_path, workflow=ACCOUNTS)
    run_request = RunRequest(
        workflow="nuclei", source="omero", inputs={}, group_name="Cell Lab", job_options={"account": "other"}
    )
    with pytest.raises(RequestRejected, match="may not choose its account"):
        job_options.check(site, run_request)


def test_a_run_chooses_its_gpu_only_where_the_site_lets_it(tmp_path):
    run_request = request().model_copy(update={"use_gpu": True})
    assert not job_options.uses_gpu(settings(tmp_path), run_request)
    site = settings(tmp_path, "inject_gpu_flag = true\ngpu_gpus = 1")
    assert job_options.options(site, run_request)["gpus"] == "1"
    assert "gpus" not in job_options.options(site, request())


def test_a_cluster_with_a_name_has_its_own_options_and_accounts(tmp_path):
    text = "cells = cells\ncells_repo = /here\nnuclei_cluster = big\n"
    text += "[SSH:big]\nhost = big\n[SLURM:Big]\nsbatch_qos = high\n[ACCOUNTS:big]\ngroup.A = a\n"
    site = settings(tmp_path, "sbatch_account = pool\nslurm_default_partition = cpu", text)
    run_request = RunRequest(workflow="nuclei", source="omero", inputs={}, group_name="A")
    found = job_options.options(site, run_request)
    assert (found["qos"], found["account"]) == ("high", "a")
    assert "partition" not in found
    elsewhere = job_options.options(site, run_request.model_copy(update={"workflow": "cells"}))
    assert (elsewhere["account"], elsewhere["partition"]) == ("pool", "cpu")
    assert "qos" not in elsewhere
