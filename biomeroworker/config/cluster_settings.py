"""The settings of one cluster: how it is reached, its folders and job options, and the accounts of its runs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from biomeroworker.config.fields import LocalPath, Located, Section, Words, ignored, setting
from biomeroworker.domain.cluster_paths import bind_problem, container_problem, home_problem, split_binds

#: The ini sections that each cluster has, and the attribute for each.
CLUSTER_SECTIONS = {"SSH": "ssh", "SLURM": "slurm", "ACCOUNTS": "accounts"}


def _is_expandable(path: str) -> str:
    if problem := home_problem(path):
        raise ValueError(f"{problem}: write the whole path")
    return path


def _is_bindable(path: str) -> str:
    if problem := container_problem(path):
        raise ValueError(problem)
    return path


def _are_binds(value: str) -> str:
    for problem in filter(None, map(bind_problem, split_binds(value))):
        raise ValueError(problem)
    return value


ClusterPath = Annotated[str, AfterValidator(_is_expandable)]


class SshSettings(Section):
    """The SSH connection to the cluster."""

    host: str = setting(
        "slurm", "Login node of the cluster: a host name, or a `Host` of `~/.ssh/config`.", "BIOMERO_SSH_HOST"
    )
    inline_ssh_env: bool = setting(
        True,
        "For scripts that use `SlurmClient` as a fabric connection. This program passes no environment variables.",
    )
    config_file: LocalPath | None = setting(
        None, "Configuration file for `ssh -F`. Unset: the default files of `ssh`.", "BIOMERO_SSH_CONFIG_FILE"
    )

    @field_validator("host")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if not re.fullmatch(r"[^\s-]\S*", value):
            raise ValueError("write one word, as in `ssh <host>`, and comments on a separate line")
        return value


class SlurmSettings(Section):
    """Folders and jobs on the cluster. Relative paths start at the home folder of the SSH account."""

    slurm_data_path: Annotated[ClusterPath, AfterValidator(_is_bindable)] = setting(
        "my-scratch/data", "Folder on the cluster for the data of runs. All nodes must see it."
    )
    slurm_images_path: ClusterPath = setting(
        "my-scratch/singularity_images/workflows", "Folder on the cluster for workflow images."
    )
    slurm_converters_path: ClusterPath = setting(
        "my-scratch/singularity_images/converters", "Folder on the cluster for converter images."
    )
    slurm_script_path: str = setting(
        "slurm-scripts",
        "Folder on the cluster where `init` writes a job script for each workflow, for programs that test for it. "
        "Runs do not use it.",
    )
    slurm_script_repo: str | None = ignored(None, "This program has one job script for all workflows.")
    slurm_data_bind_path: Annotated[str, AfterValidator(_are_binds)] | None = setting(
        None, "Further folders that containers see besides the folder of their run, separated by commas."
    )
    slurm_conversion_partition: str | None = setting(
        None,
        "Partition for conversions that a script submits (`SlurmClient.run_conversion_workflow_job`). Runs convert "
        "their images in the job of the workflow.",
    )
    slurm_default_partition: str | None = setting(
        None, "Partition for jobs. Unset: the default of SLURM.", "BIOMERO_DEFAULT_PARTITION"
    )
    sacct_start_time: str = setting(
        "2023-01-01", "Earliest time for lists of jobs, as `sacct --starttime` takes it.", "BIOMERO_SACCT_START_TIME"
    )
    sacct_days_ago: int | None = setting(
        None, "The same in days before now; overrides `sacct_start_time`.", "BIOMERO_SACCT_START_DAYS_AGO", ge=0
    )
    env_file_submission: bool = ignored(False, "Parameters are always sent in a file.", "BIOMERO_ENV_FILE_SUBMISSION")
    inject_gpu_flag: bool = setting(
        False, "Whether a run may override `<name>_use_gpu` of its workflow.", "BIOMERO_INJECT_GPU_FLAG"
    )
    gpu_partition: str | None = setting(None, "Partition for GPU jobs.", "BIOMERO_GPU_PARTITION", "GPU_PARTITION")
    gpu_gres: str | None = setting(
        None, "`--gres` for GPU jobs, such as `gpu:1`. Not together with `gpu_gpus`.", "BIOMERO_GPU_GRES", "GPU_GRES"
    )
    gpu_gpus: str | None = setting(
        None, "`--gpus` for GPU jobs, such as `1`. Not together with `gpu_gres`.", "BIOMERO_GPU_GPUS", "GPU_GPUS"
    )
    slurm_image_pull_via_sbatch: bool = setting(
        False, "Pull images in SLURM jobs instead of on the login node.", "BIOMERO_IMAGE_PULL_VIA_SBATCH"
    )
    image_pull_cpus: str = setting("8", "CPUs for a job that pulls an image.", "BIOMERO_PULL_CPUS")
    image_pull_mem: str = setting("32G", "Memory for a job that pulls an image.", "BIOMERO_PULL_MEM")
    apptainer_tmpdir: ClusterPath | None = setting(
        None, "`APPTAINER_TMPDIR` on the cluster for pulls of images.", "BIOMERO_APPTAINER_TMPDIR"
    )
    apptainer_cachedir: ClusterPath | None = setting(
        None, "`APPTAINER_CACHEDIR` on the cluster for pulls of images.", "BIOMERO_APPTAINER_CACHEDIR"
    )
    slurm_zip_cmd: str = setting(
        "$(command -v 7z || command -v 7za)",
        "7-Zip command for scripts that zip data (`SlurmClient.unpack_data`). Runs do not use it.",
        "BIOMERO_SLURM_ZIP_CMD",
    )
    image_pull_at_once: int = setting(2, "Maximum number of simultaneous pulls.", "BIOMERO_PULL_AT_ONCE", ge=1)
    registry_credentials: LocalPath | None = setting(
        None,
        "File on this machine with the credentials for private registries, in the format of `podman login --authfile`. "
        "Unset: the credentials of the account on the cluster.",
        "BIOMERO_REGISTRY_CREDENTIALS",
    )
    container_runtime: Literal["apptainer", "singularity", "charliecloud"] = setting(
        "apptainer", "Program that runs the containers.", "BIOMERO_CONTAINER_RUNTIME"
    )
    insecure_registries: Words = setting((), "Registries without TLS: `host:port`, separated by commas.")
    free_space_gb: float = setting(
        5.0, "GB that must remain free in `slurm_data_path` after a transfer; otherwise the run is paused.", ge=0
    )
    array_throttle: int | None = setting(
        None,
        "Maximum number of simultaneous tasks of one job array, for runs with `Batch_Size`. Unset: no limit.",
        "BIOMERO_ARRAY_THROTTLE",
        ge=1,
    )
    poll_seconds: float = setting(15.0, "Longest time between two status queries to SLURM, in seconds.", gt=0)
    sbatch: dict[str, str] = Field(
        default_factory=dict,
        description="`--<flag>=<value>` for every job. Flag without a value: `true`.",
        json_schema_extra={"ini": "sbatch_<flag>"},
    )


class AccountSettings(BaseModel):
    """SLURM accounts for the runs of OMERO users and groups. An entry for the user overrides one for the group.

    Names are those of OMERO, case-sensitive. Put a name with `=` or `:` in double quotes: `group."a: b" = x`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool = Field(
        default=False,
        description="Whether a run without an entry is rejected. Otherwise it uses `sbatch_account`.",
    )
    user: dict[str, str] = Field(
        default_factory=dict,
        description="SLURM account for the runs of a user.",
        json_schema_extra={"ini": "user.<name>"},
    )
    group: dict[str, str] = Field(
        default_factory=dict,
        description="SLURM account for the runs of a group.",
        json_schema_extra={"ini": "group.<name>"},
    )

    @property
    def in_use(self) -> bool:
        """Whether the section has entries."""
        return bool(self.required or self.user or self.group)

    def of(self, user: str, group: str) -> str:
        """The account for a run; empty if there is no entry for it."""
        return self.user.get(user) or self.group.get(group) or ""


class ClusterSettings(Located):
    """The settings of one cluster, from its own sections only: nothing is inherited from another cluster."""

    #: As in ``[SSH:<name>]``; empty for the cluster of ``[SSH]`` and ``[SLURM]``.
    name: str = Field(default="", exclude=True)
    ssh: SshSettings = SshSettings()
    slurm: SlurmSettings = SlurmSettings()
    accounts: AccountSettings = Field(default_factory=AccountSettings)

    def section(self, name: str) -> str:
        """The name of one of the cluster's sections in the ini, such as ``SLURM`` or ``SLURM:<cluster>``."""
        return f"{name}:{self.name}" if self.name else name
