"""Settings: ini files of biomero, precedence of the sources, and messages for invalid values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from biomeroworker.config import SECTIONS, Settings, settings_table, standard_files
from biomeroworker.errors import ConfigError

CHECKOUT = Path(__file__).parents[3]


def load(tmp_path: Path, text: str = "", environ: dict[str, str] | None = None, **more: str) -> Settings:
    """The settings that one file gives; ``more`` are standard files by name, in their order."""
    standard = []
    for name, content in more.items():
        standard.append(tmp_path / f"{name}.ini")
        standard[-1].write_text(content)
    named = tmp_path / "named.ini"
    named.write_text(text)
    return Settings.load(named, {"HOME": str(tmp_path), **(environ or {})}, standard=standard)


def test_without_files_all_settings_have_defaults(tmp_path: Path) -> None:
    settings = Settings.load(None, {"HOME": str(tmp_path)}, standard=[])
    assert settings.clusters[""].ssh.host == "slurm"
    assert settings.clusters[""].slurm.slurm_data_path == "my-scratch/data"
    assert settings.clusters[""].slurm.image_pull_cpus == "8"
    assert settings.clusters[""].slurm.container_runtime == "apptainer"
    assert settings.worker.work_folder == tmp_path / ".local/state/biomeroworker/work"
    assert settings.database_url == f"sqlite:///{tmp_path}/.local/state/biomeroworker/runs.sqlite"
    assert (settings.workflows, settings.converters, settings.warnings) == ({}, {}, ())


def test_the_state_folder_follows_xdg(tmp_path: Path) -> None:
    settings = Settings.load(None, {"HOME": "/h", "XDG_STATE_HOME": str(tmp_path)}, standard=[])
    assert settings.worker.work_folder == tmp_path / "biomeroworker" / "work"
    assert settings.database_url == f"sqlite:///{tmp_path}/biomeroworker/runs.sqlite"


def test_an_ini_file_of_biomero_keeps_its_meaning(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        [SSH]
        HOST=hpc
        inline_ssh_env = no
        # a comment
        [SLURM]
        slurm_data_path: /scratch/%u/100%
        sacct_days_ago = 7
        env_file_submission=true
        gpu_gpus = 2
        image_pull_mem =
        sbatch_exclude=wn-a,wn-b
        sbatch_cpus-per-task = 8
        sbatch_time =
        [ANALYTICS]
        track_workflows=True
        sqlalchemy_url = postgresql+psycopg2://ada:hunter2@db/biomero
        [CONVERTERS]
        zarr_to_tiff = cellularimagingcf/converter:1.0
        """.replace("\n        ", "\n"),
    )
    assert (settings.clusters[""].ssh.host, settings.clusters[""].ssh.inline_ssh_env) == ("hpc", False)
    assert settings.clusters[""].slurm.slurm_data_path == "/scratch/%u/100%"
    assert settings.clusters[""].slurm.sacct_days_ago == 7
    assert settings.clusters[""].slurm.gpu_gpus == "2"
    assert settings.clusters[""].slurm.image_pull_mem == "32G", "blank is unset"
    assert settings.clusters[""].slurm.sbatch == {"exclude": "wn-a,wn-b", "cpus-per-task": "8"}
    assert settings.converters == {"zarr_to_tiff": "cellularimagingcf/converter:1.0"}
    assert settings.database_url == "postgresql+psycopg2://ada:hunter2@db/biomero"


WORKFLOWS = {
    "cellpose": "cellpose",
    "cellpose_repo": "https://github.com/o/W-Cellpose/tree/v1.4.0",
    "cellpose_job": "jobs/cellpose.sh",
    "cellpose_job_mem": "4GB",
    "cellpose_job_cpus-per-task": "8",
    "cellpose_use_gpu": "true",
    "cellpose_job_array": "other",
    "cellpose_job_array_repo": "/srv/workflows/array",
    "cellpose_job_array_job_mem": "1GB",
}


@pytest.mark.parametrize("order", [1, -1])
def test_keys_are_assigned_to_workflows_for_any_names_and_order(tmp_path: Path, order: int) -> None:
    lines = [f"{key} = {value}" for key, value in WORKFLOWS.items()][::order]
    workflows = load(tmp_path, "[WORKFLOWS]\n" + "\n".join(lines)).workflows
    assert sorted(workflows) == ["cellpose", "cellpose_job_array"]
    first, second = workflows["cellpose"], workflows["cellpose_job_array"]
    assert (first.path, first.job, first.use_gpu) == ("cellpose", "jobs/cellpose.sh", True)
    assert first.job_params == {"mem": "4GB", "cpus-per-task": "8"}
    assert (second.path, second.repo) == ("other", "/srv/workflows/array")
    assert second.job_params == {"mem": "1GB"}


def test_workflows_override_models_which_is_the_former_name_of_the_section(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[WORKFLOWS]\na = new\na_repo = /r\n",
        early="[MODELS]\na = old\nb = b\nb_repo = /b\n",
    )
    assert settings.workflows["a"].path == "new"
    assert settings.workflows["b"].repo == "/b"
    assert settings.origins["WORKFLOWS.b_repo"] == f"{tmp_path / 'early.ini'}:4"


def test_a_later_file_changes_and_adds_but_cannot_delete(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[WORKFLOWS]\na_job_mem = 9GB\na_repo =\n[SLURM]\ngpu_partition =\n",
        one="[WORKFLOWS]\na = a\na_repo = /one\n[SLURM]\ngpu_partition = gpu\npoll_seconds = 5\n",
        two="[SLURM]\npoll_seconds = 6\n",
    )
    assert settings.workflows["a"].repo == "/one"
    assert settings.workflows["a"].job_params == {"mem": "9GB"}
    assert settings.clusters[""].slurm.gpu_partition == "gpu"
    assert settings.clusters[""].slurm.poll_seconds == 6
    assert settings.origins["SLURM.poll_seconds"] == f"{tmp_path / 'two.ini'}:2"
    assert settings.origins["WORKFLOWS.a_job_mem"] == f"{tmp_path / 'named.ini'}:2"


def test_the_environment_overrides_files_and_its_first_variable_the_others(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[SLURM]\ngpu_partition = ini\nslurm_default_partition = ini\n[ANALYTICS]\nsqlalchemy_url = sqlite:///a\n",
        {
            "GPU_PARTITION": "second",
            "BIOMERO_GPU_PARTITION": "first",
            "BIOMERO_DEFAULT_PARTITION": "",
            "SQLALCHEMY_URL": "sqlite:///b",
            "BIOMERO_INJECT_GPU_FLAG": "y",
        },
    )
    assert settings.clusters[""].slurm.gpu_partition == "first"
    assert settings.clusters[""].slurm.slurm_default_partition == "ini", "blank is unset"
    assert settings.clusters[""].slurm.inject_gpu_flag
    assert settings.database_url == "sqlite:///b"
    assert settings.origins["SLURM.gpu_partition"] == "environment BIOMERO_GPU_PARTITION"
    assert settings.origins["ANALYTICS.sqlalchemy_url"] == "environment SQLALCHEMY_URL"


def test_a_variable_can_name_the_file(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / f"{name}.ini").write_text(f"[SSH]\nhost = {name}\n")
    old = {"HOME": str(tmp_path), "BIOMERO_SLURM_CONFIG_FILE": str(tmp_path / "old.ini")}
    new = {"BIOMERO_CONFIG": str(tmp_path / "new.ini")}
    assert Settings.load(None, old, standard=[]).clusters[""].ssh.host == "old"
    assert Settings.load(None, old | new, standard=[]).clusters[""].ssh.host == "new"
    assert (
        Settings.load(tmp_path / "old.ini", new | {"HOME": str(tmp_path)}, standard=[]).clusters[""].ssh.host == "old"
    )


def test_every_variable_of_biomero_is_read() -> None:
    read = {
        variable
        for kind in SECTIONS.values()
        for field in kind.model_fields.values()
        for variable in (field.json_schema_extra or {}).get("env", [])  # type: ignore[union-attr]
    }
    from biomeroworker.domain.constants import slurm_env

    old = {value for name, value in vars(slurm_env).items() if not name.startswith("_")}
    assert old - read == {"BIOMERO_SLURM_CONFIG_FILE"}, "that one names the file"


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("[SLURM]\n\npoll_seconds = soon\n", {}, ["named.ini:3: [SLURM] poll_seconds = 'soon'", "number"]),
        ("[SLURM]\npoll_seconds = 0\n", {}, ["named.ini:2", "greater than 0"]),
        ("[SLURM]\nfree_space_gb = -1\n", {}, ["named.ini:2", "at least 0"]),
        ("[NOTIFICATIONS]\nsmtp_port = 70000\n", {}, ["named.ini:2", "at most 65535"]),
        ("[NODE]\nforward_env = OMERO_PASSWORD\n", {}, [": OMERO_PASSWORD is a secret"]),
        ("[SSH\nhost = a\n", {}, ["named.ini:1", "write [SECTION]"]),
        ("[SSH] host = a\n", {}, ["named.ini:1", "write [SECTION]"]),
        ("[SLURM]\ncontainer_runtime = docker\n", {}, ["named.ini:2", "'apptainer', 'singularity' or 'charliecloud'"]),
        ("[SSH]\ninline_ssh_env = maybe\n", {}, ["named.ini:2: [SSH] inline_ssh_env = 'maybe'", "write true or false"]),
        ("[WORKFLOWS]\na = a\na_use_gpu = perhaps\n", {}, ["named.ini:3: [WORKFLOWS] a_use_gpu"]),
        (
            "[WORKFLOWS]\na = a\na_accepts = dimensions: 2D; channels: some\n",
            {},
            ["named.ini:3: [WORKFLOWS] a_accepts", "'channels: some'", "numbers or ranges, such as 1, 1-3 or 2-"],
        ),
        ("", {"BIOMERO_SACCT_START_DAYS_AGO": "many"}, ["environment BIOMERO_SACCT_START_DAYS_AGO", "whole number"]),
        ("[SLURM]\ngpu_gres = gpu:1\ngpu_gpus = 1\n", {}, ["named.ini:2", "named.ini:3", "exclude each other"]),
        ("[SSH]\nhost = a\nhost = b\n", {}, ["named.ini:3: [SSH] host is already set in line 2"]),
        ("host = a\n", {}, ["named.ini:1", "before the first [SECTION]"]),
        ("[SLURM]\npoll_seconds = x\nsacct_days_ago = y\n", {}, ["named.ini:2", "named.ini:3"]),
        (
            "[SLURM]\nslurm_data_path = $SCRATCH/x\n",
            {},
            ["named.ini:2: [SLURM] slurm_data_path", "write the whole path"],
        ),
        (
            "[SLURM]\napptainer_tmpdir = /tmp/$USER\n",
            {},
            ["named.ini:2: [SLURM] apptainer_tmpdir", "write the whole path"],
        ),
        ("[SLURM]\nslurm_data_path = /a,b\n", {}, ["named.ini:2", "comma"]),
        ("[SLURM]\nslurm_data_bind_path = /a:b\n", {}, ["named.ini:2", "'/a:b' is not /folder"]),
        ("[SLURM]\nslurm_data_path = /a\n  poll_seconds = 9\n", {}, ["named.ini:2", "blanks before 'poll_seconds'"]),
        ("[SSH]\nhost = front end\n", {}, ["named.ini:2: [SSH] host", "one word"]),
        ("[SSH]\nhost = -oProxyCommand=x\n", {}, ["named.ini:2: [SSH] host", "one word"]),
        ("[WORKFLOWS]\na = ../x\na_repo = r\n", {}, ["named.ini:2: [WORKFLOWS] a", "below slurm_images_path"]),
    ],
)
def test_an_invalid_value_is_reported_with_its_place_and_what_is_allowed(
    tmp_path: Path, text: str, environ: dict[str, str], message: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text, environ)
    for part in message:
        assert part in str(refused.value)


def test_a_named_file_must_exist_and_be_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.ini: cannot be read"):
        Settings.load(tmp_path / "nowhere.ini", {"HOME": str(tmp_path)}, standard=[])
    (tmp_path / "binary.ini").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.ini: cannot be read"):
        Settings.load(tmp_path / "binary.ini", {"HOME": str(tmp_path)}, standard=[])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[SSH]\nuser = me\n",
            "named.ini:2: [SSH] user is not a setting: put user, port, keys and jump hosts into ~/.ssh/config",
        ),
        (
            "[SLURM]\ngpu_partition = gpu # new\n",
            "named.ini:2: [SLURM] gpu_partition: everything after '=' is the value",
        ),
    ],
)
def test_a_likely_mistake_is_a_warning_with_the_solution(tmp_path: Path, text: str, message: str) -> None:
    (warning,) = load(tmp_path, text).warnings
    assert message in warning


def test_a_list_may_continue_and_a_value_may_start_in_the_next_line(tmp_path: Path) -> None:
    text = "[SLURM]\ninsecure_registries = a:5000\n  b:5000\nslurm_data_path =\n    ~/data\n"
    found = load(tmp_path, text).clusters[""].slurm
    assert (found.insecure_registries, found.slurm_data_path) == (("a:5000", "b:5000"), "~/data")


def test_a_comment_may_follow_the_name_of_a_section(tmp_path: Path) -> None:
    settings = load(tmp_path, "[SSH]  ; the login node\nhost = a\n[SLURM] # jobs\npoll_seconds = 7\n")
    assert (settings.clusters[""].ssh.host, settings.clusters[""].slurm.poll_seconds) == ("a", 7)
    assert not settings.warnings


def test_an_unknown_key_is_a_warning_with_its_place(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "[SLURM]\nslurm_data_pth = x\nsbatch = y\n[NOTES]\na = b\n[WORKFLOWS]\nlost_job_mem = 4GB\n",
    )
    warnings = "\n".join(settings.warnings)
    assert "named.ini:2: [SLURM] slurm_data_pth is not a setting; did you mean slurm_data_path?" in warnings
    assert "named.ini:3: [SLURM] sbatch is not a setting" in warnings
    assert "named.ini:5: there is no section [NOTES]" in warnings
    assert "named.ini:7: [WORKFLOWS] lost_job_mem belongs to no workflow" in warnings
    assert settings.workflows == {}


@pytest.mark.parametrize("url", ["postgresql://ada:hunter2@db/x", "postgresql://ada:x@hunter2@db/x"])
def test_the_password_of_the_database_is_shown_nowhere(tmp_path: Path, url: str) -> None:
    settings = load(tmp_path, f"[ANALYTICS]\nsqlalchemy_url = {url}\n")
    assert settings.database_url == url, "but the database gets it"
    for text in (repr(settings), str(settings), str(settings.shown()), settings.database_shown):
        assert "hunter2" not in text
    assert settings.database_shown.endswith("@db/x")


def test_the_password_of_a_repository_is_not_shown(tmp_path: Path) -> None:
    settings = load(tmp_path, "[WORKFLOWS]\na = a\na_repo = https://ada:hunter2@host/r\n")
    assert settings.shown()["WORKFLOWS.a_repo"] == "https://ada:***@host/r"


def test_an_invalid_database_url_is_not_repeated_in_the_message(tmp_path: Path) -> None:
    for url in ("mysql://ada:hunter2@db/x", "ada:hunter2"):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path, f"[ANALYTICS]\nsqlalchemy_url = {url}\n")
        assert "hunter2" not in str(refused.value)
        assert "named.ini:2: [ANALYTICS] sqlalchemy_url" in str(refused.value)


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings = load(tmp_path)
    with pytest.raises(ValidationError):
        settings.clusters[""].ssh.host = "elsewhere"  # type: ignore[misc]


def test_config_show_prints_all_settings_and_nothing_else(tmp_path: Path) -> None:
    settings = load(tmp_path, "[SLURM]\nsbatch_time = 1:00:00\n[WORKFLOWS]\na = a\na_repo = /r\na_job_mem = 1GB\n")
    shown = settings.shown()
    fixed = {f"{name}.{key}" for name, kind in SECTIONS.items() for key in kind.model_fields if key != "sbatch"}
    assert fixed <= set(shown)
    assert set(settings.origins) <= set(shown)
    assert shown["SLURM.sbatch_time"] == "1:00:00"
    assert shown["WORKFLOWS.a_job_mem"] == "1GB"


def test_the_table_for_the_documentation_has_every_key() -> None:
    table = settings_table()
    for name, kind in SECTIONS.items():
        assert f"### [{name}]" in table
        for key, field in kind.model_fields.items():
            assert f"| `{'sbatch_<flag>' if key == 'sbatch' else key}` |" in table
            assert field.description
    assert "`SQLALCHEMY_URL`" in table
    assert str(Path.home()) not in table, "the table is the same on every machine"


def test_the_sample_and_the_packaged_file_contain_only_known_settings(tmp_path: Path) -> None:
    settings = Settings.load(CHECKOUT / "slurm-config.ini", {"HOME": str(tmp_path)}, standard=[])
    assert settings.warnings == ()
    sample = (CHECKOUT / "slurm-config.ini").read_text()
    defaults: dict[str, Any] = Settings.load(None, {"HOME": str(tmp_path)}, standard=[]).shown()
    same = {key: value for key, value in settings.shown().items() if key in defaults}
    assert same == defaults, "the sample changes nothing but what it shows how to change"
    assert "[WORKFLOWS]" in sample


def test_the_standard_files_are_those_of_biomero() -> None:
    assert [str(path) for path in standard_files({"HOME": "/home/ada"})] == [
        "/etc/slurm-config.ini",
        "/OMERO/slurm-config.ini",
        "/home/ada/slurm-config.ini",
    ]


#: A deployment of biomero 2.8: every key that it knew.
OLD = """
[SSH]
host=localslurm
inline_ssh_env=True
[SLURM]
slurm_data_path=my-scratch/data
slurm_images_path=my-scratch/singularity_images/workflows
slurm_converters_path=my-scratch/singularity_images/converters
slurm_data_bind_path=/data/my-scratch/data
slurm_conversion_partition=cpu-short
slurm_default_partition=
slurm_script_path=my-scratch/slurm-scripts
slurm_script_repo=
sacct_start_time=2023-01-01
sacct_days_ago=
env_file_submission=
inject_gpu_flag=
gpu_partition=
gpu_gres=gpu:1
gpu_gpus=
slurm_image_pull_via_sbatch=
image_pull_cpus=
image_pull_mem=
apptainer_tmpdir=
apptainer_cachedir=
slurm_zip_cmd=7z
sbatch_exclude=wn-a,wn-b
[ANALYTICS]
track_workflows=True
enable_job_accounting=True
enable_job_progress=True
enable_workflow_analytics=True
sqlalchemy_url=postgresql+psycopg2://biomero:p%40ss%word@database-biomero:5432/biomero
analytics_rebuild_start_time=
analytics_rebuild_days_ago=
[CONVERTERS]
zarr_to_tiff=cellularimagingcf/convert_zarr_to_tiff:1.14.0
[MODELS]
cellpose_job_mem=4GB
cellpose=cellpose
cellpose_repo=https://github.com/TorecLuik/W_NucleiSegmentation-Cellpose/tree/v1.4.0
cellpose_job=jobs/cellpose.sh
cellpose_use_gpu=true
"""


def test_every_key_of_biomero_is_accepted_with_a_warning_if_it_has_no_effect(tmp_path: Path) -> None:
    settings = load(tmp_path, OLD)
    ignored = {warning.partition("] ")[2].split()[0] for warning in settings.warnings}
    assert ignored == {
        "track_workflows", "enable_job_accounting", "enable_job_progress", "enable_workflow_analytics",
    }  # fmt: skip
    assert all(" is ignored. " in warning and "named.ini:" in warning for warning in settings.warnings)
    assert (settings.clusters[""].slurm.gpu_gres, settings.clusters[""].slurm.image_pull_mem) == ("gpu:1", "32G")
    assert settings.workflows["cellpose"].job_params == {"mem": "4GB"}
    assert settings.workflows["cellpose"].job == "jobs/cellpose.sh"
    assert settings.clusters[""].slurm.slurm_script_path == "my-scratch/slurm-scripts"
    assert settings.database_url.endswith("p%40ss%word@database-biomero:5432/biomero")


# -- several clusters --------------------------------------------------------------------------------------------------

TWO = """
[SSH]
host = near
[SLURM]
slurm_default_partition = cpu
sbatch_account = pool
[SSH:Far]
host = far.example.org
[SLURM:far]
gpu_partition = a100
[ACCOUNTS:far]
required = true
group.Cell Lab = cell
[WORKFLOWS]
a = a
a_repo = /a
b = b
b_repo = /b
b_cluster = FAR
"""


def test_a_named_cluster_inherits_nothing(tmp_path: Path) -> None:
    settings = load(tmp_path, TWO, {"BIOMERO_DEFAULT_PARTITION": "env"})
    assert tuple(settings.clusters) == ("", "far")
    assert (settings.workflows["a"].cluster, settings.workflows["b"].cluster) == ("", "far")
    far = settings.clusters["far"]
    assert (far.ssh.host, far.slurm.gpu_partition, far.slurm.slurm_default_partition) == (
        "far.example.org", "a100", None,
    )  # fmt: skip
    assert (far.slurm.sbatch, far.accounts.required) == ({}, True)
    assert settings.clusters[""].slurm.slurm_default_partition == "env"
    assert not settings.clusters[""].accounts.in_use
    assert settings.clusters[""].line("SLURM", "gpu_partition") == "[SLURM] gpu_partition"
    assert far.line("SLURM", "gpu_partition") == f"{tmp_path}/named.ini:10: [SLURM:far] gpu_partition"
    assert settings.line("WORKFLOWS", "b_cluster").endswith("[WORKFLOWS] b_cluster")
    assert [settings.cluster_of(name).name for name in ("a", "b")] == ["", "far"]
    shown = settings.shown()
    assert shown["SSH:far.host"] == "far.example.org"
    assert shown["ACCOUNTS:far.group.Cell Lab"] == "cell"
    assert shown["WORKFLOWS.b_cluster"] == "far"
    assert set(settings.origins) <= set(shown)


def test_the_default_cluster_is_one_that_a_workflow_runs_on(tmp_path: Path) -> None:
    assert load(tmp_path).clusters_in_use == ("",)
    two = load(tmp_path, TWO)
    assert (two.clusters_in_use, two.default_cluster.ssh.host) == (("", "far"), "near")
    named = load(tmp_path, "[SSH:far]\nhost = f\n[SSH:b]\nhost = b\n[WORKFLOWS]\na = a\na_repo = /a\na_cluster = far\n")
    assert (named.clusters_in_use, named.default_cluster.ssh.host) == (("far", "b"), "f")


def test_the_default_host_of_a_named_cluster_is_its_name(tmp_path: Path) -> None:
    settings = load(tmp_path, "[SLURM:spider]\nsbatch_mem = 1G\n")
    assert settings.clusters["spider"].ssh.host == "spider"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[WORKFLOWS]\na = a\na_cluster = spidr\n[SSH:spider]\nhost = s\n",
            "named.ini:3: .*no section .SSH:spidr.*spider",
        ),
        ("[SLURM:far]\npoll_seconds = soon\n", r"named.ini:2: \[SLURM:far\] poll_seconds = 'soon'"),
        ("[SLURM:far]\ngpu_gres = gpu:1\ngpu_gpus = 1\n", "named.ini:2.*named.ini:3.*exclude each other"),
        ("[SSH:../etc]\nhost = x\n", "a name of a cluster has only letters"),
        ("[ACCOUNTS]\nrequired = perhaps\n", r"named.ini:2: \[ACCOUNTS\] required = 'perhaps'"),
    ],
)
def test_an_error_in_the_sections_of_a_cluster_is_reported_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


def test_an_unknown_key_of_a_cluster_is_a_warning(tmp_path: Path) -> None:
    warnings = "\n".join(load(tmp_path, "[ANALYTICS:far]\na = b\n[ACCOUNTS]\nlab = x\n[SSH:far]\nhst = y\n").warnings)
    assert "named.ini:2: there is no section [ANALYTICS:far]" in warnings
    assert "named.ini:4: [ACCOUNTS] lab is not a setting; use one of: required, user.<name>, group.<name>" in warnings
    assert "named.ini:6: [SSH:far] hst is not a setting; did you mean host?" in warnings
