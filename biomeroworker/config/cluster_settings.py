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
    """How the cluster is reached."""

    host: str = setting(
        "slurm", "Host of the cluster's login node, as `ssh` knows it (`~/.ssh/config`).", "BIOMERO_SSH_HOST"
    )
    inline_ssh_env: bool = setting(
        True,
        "For code that uses `SlurmClient` as a fabric connection; this program hands nothing over in the environment.",
    )
    config_file: LocalPath | None = setting(
        None, "A configuration file for `ssh -F`; unset: what `ssh` reads by itself.", "BIOMERO_SSH_CONFIG_FILE"
    )

    @field_validator("host")
    @classmethod
    def _one_word(cls, value: str) -> str:
        if not re.fullmatch(r"[^\s-]\S*", value):
            raise ValueError("should be one word, as in `ssh <host>`; a comment stands in a line of its own")
        return value


class SlurmSettings(Section):
    """Folders, options and habits of the cluster. Relative paths start at the home of the SSH user."""

    slurm_data_path: Annotated[ClusterPath, AfterValidator(_is_bindable)] = setting(
        "my-scratch/data", "Folder on the cluster for the data of runs."
    )
    slurm_images_path: ClusterPath = setting(
        "my-scratch/singularity_images/workflows", "Folder on the cluster for workflow images."
    )
    slurm_converters_path: ClusterPath = setting(
        "my-scratch/singularity_images/converters", "Folder on the cluster for converter images."
    )
    slurm_script_path: str = ignored("slurm-scripts", "Job scripts are not kept on the cluster any more.")
    slurm_script_repo: str | None = ignored(None, "There is one job script, and it comes with this program.")
    slurm_data_bind_path: Annotated[str, AfterValidator(_are_binds)] | None = setting(
        None, "Paths, separated by commas, that containers must be able to see besides their run's own folder."
    )
    slurm_conversion_partition: str | None = setting(
        None,
        "Partition for conversions that a script submits (`SlurmClient.run_conversion_workflow_job`); a run is "
        "converted within its workflow's own job.",
    )
    slurm_default_partition: str | None = setting(
        None, "Partition for jobs that name none.", "BIOMERO_DEFAULT_PARTITION"
    )
    sacct_start_time: str = setting("2023-01-01", "How far back lists of jobs look.", "BIOMERO_SACCT_START_TIME")
    sacct_days_ago: int | None = setting(
        None, "The same in days; wins over `sacct_start_time`.", "BIOMERO_SACCT_START_DAYS_AGO", ge=0
    )
    env_file_submission: bool = ignored(
        False, "Parameters always travel in a file of their own.", "BIOMERO_ENV_FILE_SUBMISSION"
    )
    inject_gpu_flag: bool = setting(
        False, "Whether a run may choose the GPU against the workflow's `_use_gpu`.", "BIOMERO_INJECT_GPU_FLAG"
    )
    gpu_partition: str | None = setting(None, "Partition for GPU jobs.", "BIOMERO_GPU_PARTITION", "GPU_PARTITION")
    gpu_gres: str | None = setting(
        None, "`--gres` of GPU jobs, such as `gpu:1`. Not together with `gpu_gpus`.", "BIOMERO_GPU_GRES", "GPU_GRES"
    )
    gpu_gpus: str | None = setting(
        None, "`--gpus` of GPU jobs, such as `1`. Not together with `gpu_gres`.", "BIOMERO_GPU_GPUS", "GPU_GPUS"
    )
    slurm_image_pull_via_sbatch: bool = setting(
        False, "Pull images in a job, not on the login node.", "BIOMERO_IMAGE_PULL_VIA_SBATCH"
    )
    image_pull_cpus: str = setting("8", "Cores of that job.", "BIOMERO_PULL_CPUS")
    image_pull_mem: str = setting("32G", "Memory of that job.", "BIOMERO_PULL_MEM")
    apptainer_tmpdir: ClusterPath | None = setting(
        None, "`APPTAINER_TMPDIR` on the cluster while images are pulled.", "BIOMERO_APPTAINER_TMPDIR"
    )
    apptainer_cachedir: ClusterPath | None = setting(
        None, "`APPTAINER_CACHEDIR` on the cluster while images are pulled.", "BIOMERO_APPTAINER_CACHEDIR"
    )
    slurm_zip_cmd: str = setting(
        "$(command -v 7z || command -v 7za)",
        "The 7-Zip command of scripts that zip data themselves (`SlurmClient.unpack_data`). Runs zip nothing.",
        "BIOMERO_SLURM_ZIP_CMD",
    )
    image_pull_at_once: int = setting(2, "How many images are pulled at the same time.", "BIOMERO_PULL_AT_ONCE", ge=1)
    registry_credentials: LocalPath | None = setting(
        None,
        "A file on this machine with names and passwords for private registries, as `podman login --authfile` writes "
        "it; unset: the logins of the cluster's account.",
        "BIOMERO_REGISTRY_CREDENTIALS",
    )
    container_runtime: Literal["apptainer", "singularity", "charliecloud"] = setting(
        "apptainer", "What runs the containers.", "BIOMERO_CONTAINER_RUNTIME"
    )
    insecure_registries: Words = setting(
        (), "Registries (`host:port`, separated by commas) that are spoken to without TLS."
    )
    free_space_gb: float = setting(
        5.0, "Space in GB that must stay free below `slurm_data_path` when a run's inputs have been sent.", ge=0
    )
    array_throttle: int | None = setting(
        None, "How many tasks of one array job may run at once, for a run that is split (`Batch_Size`); unset: any.",
        "BIOMERO_ARRAY_THROTTLE", ge=1,
    )  # fmt: skip
    poll_seconds: float = setting(15.0, "The longest wait between two questions to the scheduler, in seconds.", gt=0)
    sbatch: dict[str, str] = Field(
        default_factory=dict,
        description="`--<flag>=<value>` for every job; for a flag without value write `true`.",
        json_schema_extra={"ini": "sbatch_<flag>"},
    )


class AccountSettings(BaseModel):
    """Whose jobs are charged to which SLURM account: a user's own entry first, then that of the group the run is for.

    Names are OMERO's, in their own capitals; one that holds `=` or `:` stands in double quotes (`group."a: b" = x`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    required: bool = Field(
        default=False,
        description="Whether a run for which there is no account is refused, not charged to `sbatch_account`.",
    )
    user: dict[str, str] = Field(
        default_factory=dict,
        description="SLURM account of a user's runs.",
        json_schema_extra={"ini": "user.<name>"},
    )
    group: dict[str, str] = Field(
        default_factory=dict,
        description="SLURM account of a group's runs.",
        json_schema_extra={"ini": "group.<name>"},
    )

    @property
    def in_use(self) -> bool:
        """Whether accounts are this section's to give."""
        return bool(self.required or self.user or self.group)

    def of(self, user: str, group: str) -> str:
        """The account of a run; empty where there is none for it."""
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
