"""Every setting there is: its name, meaning, default, and the variables of the environment that override it.

This is the one source of the ini file's keys, of the table in the documentation, of ``config show`` and of the checks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from biomeroworker.config.fields import LocalPath, Section, Words, ignored, setting


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this program keeps what must survive it, after the XDG Base Directory specification."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base) / "biomeroworker"


_HOME = re.compile(r"(?:~|\$HOME|\$\{HOME\})(?:/|$)")


def _on_the_cluster(path: str) -> str:
    """No shell reads the path: nothing in it stands for something else, but for the home folder at its start."""
    rest = _HOME.sub("", path, count=1) if _HOME.match(path) else path
    if "$" in rest or rest.startswith("~"):
        raise ValueError("only ~/ and $HOME/ stand for something in a path on the cluster: write it out")
    return path


def _without_marks(path: str) -> str:
    if ":" in path or "," in path:
        raise ValueError("a path with a colon or a comma cannot be given to a container")
    return path


_BIND = re.compile(
    r"(?:~/|\$HOME/|\$\{HOME\}/)?[A-Za-z0-9._][A-Za-z0-9._/@+-]*|/[^:\n\r\0]*(?::/[^:\n\r\0]*(?::(?:ro|rw))?)?"
)


def _bindable(value: str) -> str:
    for part in filter(None, map(str.strip, value.split(","))):
        if not _BIND.fullmatch(part):
            raise ValueError(f"{part!r} is not /folder, /source:/target or /source:/target:ro")
    return value


def _below_the_images(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
        raise ValueError("should be a folder below slurm_images_path, such as the workflow's name")
    return path


ClusterPath = Annotated[str, AfterValidator(_on_the_cluster)]


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

    slurm_data_path: Annotated[ClusterPath, AfterValidator(_without_marks)] = setting(
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
    slurm_data_bind_path: Annotated[str, AfterValidator(_bindable)] | None = setting(
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


class AnalyticsSettings(Section):
    """The log of runs."""

    track_workflows: bool = ignored(True, "Runs are always recorded.")
    enable_job_accounting: bool = ignored(True, "The table is always kept.")
    enable_job_progress: bool = ignored(True, "The tables are always kept.")
    enable_workflow_analytics: bool = ignored(True, "The table is always kept.")
    sqlalchemy_url: SecretStr | None = setting(
        None,
        "Database of the log, such as `postgresql+psycopg2://user:password@host/name`; "
        "unset: a SQLite file, `runs.sqlite` in `~/.local/state/biomeroworker`.",
        "SQLALCHEMY_URL",
    )
    analytics_rebuild_start_time: str | None = ignored(
        None, "Tables are always rebuilt whole.", "BIOMERO_ANALYTICS_REBUILD_START_TIME"
    )
    analytics_rebuild_days_ago: int | None = ignored(
        None, "Tables are always rebuilt whole.", "BIOMERO_ANALYTICS_REBUILD_DAYS_AGO", ge=0
    )

    @field_validator("sqlalchemy_url")
    @classmethod
    def _readable(cls, value: SecretStr | None) -> SecretStr | None:
        """A URL, and one of a database that can keep the log; the message never shows it."""
        if value is not None:
            try:
                backend = make_url(value.get_secret_value()).get_backend_name()
            except ArgumentError:
                raise ValueError("should be a URL such as postgresql+psycopg2://user:password@host/name") from None
            if backend not in ("postgresql", "postgres", "sqlite"):
                raise ValueError("should start with postgresql+psycopg2:// or sqlite:///")
        return value


class WorkerSettings(Section):
    """The machine that this program runs on, and its patience."""

    descriptor_refresh_hours: float = setting(
        24.0,
        "After so many hours a workflow's descriptor is asked for again; until then, and offline, the copy is used.",
        gt=0,
    )
    work_folder: LocalPath = Field(
        default_factory=lambda: state_folder() / "work",
        description="Folder on this machine where inputs and results of unfinished runs are staged.",
        json_schema_extra={"env": ["BIOMERO_WORK_FOLDER"], "default": "~/.local/state/biomeroworker/work"},
    )
    retry_hours: float = setting(
        6.0, "After so many hours of failing for the same passing cause a run is paused.", gt=0
    )
    retention_days: float = setting(
        14.0,
        "How long the data of ended runs stays on the cluster and in the work folder, in days; 0 keeps it for ever.",
        ge=0,
    )


class NotificationSettings(Section):
    """How the end of a run is told: by e-mail to who asked for it, and to a web service. Both are tried for days.

    Passwords stand in no file: `BIOMERO_SMTP_PASSWORD` and `BIOMERO_WEBHOOK_SECRET` are read from the environment.
    """

    smtp_from: str | None = setting(None, "Sender's address of e-mails.", "BIOMERO_SMTP_FROM")
    smtp_tls: Literal["starttls", "tls", "none"] = setting(
        "starttls", "`starttls`, `tls` from the first byte, or `none`.", "BIOMERO_SMTP_TLS"
    )
    smtp_user: str | None = setting(
        None, "Login at the mail server, with the password in `BIOMERO_SMTP_PASSWORD`.", "BIOMERO_SMTP_USER"
    )
    smtp_host: str | None = setting(None, "Mail server; unset: no e-mails. Needs `smtp_from`.", "BIOMERO_SMTP_HOST")
    smtp_port: int | None = setting(
        None, "Its port; unset: 587, 465 or 25, as `smtp_tls` says.", "BIOMERO_SMTP_PORT", ge=1, le=65535
    )
    webhook_url: SecretStr | None = setting(
        None,
        "`http` or `https` address that is sent a POST with JSON at the end of each run; signed when "
        "`BIOMERO_WEBHOOK_SECRET` is set. Unset: none.",
        "BIOMERO_WEBHOOK_URL",
    )
    give_up_days: float = setting(7.0, "For how many days a notification is tried.", gt=0)

    @field_validator("smtp_from")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None and not is_address(value):
            raise ValueError("should be a plain e-mail address such as biomero@example.org")
        return value

    @field_validator("smtp_host")
    @classmethod
    def _complete(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Checked here because this key is what switches e-mail on."""
        if value is not None and not re.fullmatch(r"[A-Za-z0-9.:_-]+", value):
            raise ValueError("should be the name of a host")
        if value is not None and "smtp_from" in info.data and not info.data["smtp_from"]:
            raise ValueError("smtp_from must be set too")
        if value is not None and info.data.get("smtp_user") and info.data.get("smtp_tls") == "none":
            raise ValueError("smtp_user would send its password in clear: smtp_tls must not be none")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _a_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        """Addresses of web hooks are often secrets themselves: no message shows one."""
        if value is not None and not is_web_address(value.get_secret_value()):
            raise ValueError("should be an http or https address, with neither login nor blanks in it")
        return value


_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,186}[A-Za-z0-9])?")


def is_address(text: str) -> bool:
    """Whether a text is one plain ASCII e-mail address (RFC 5321's dot-atom form): nothing that could end a header."""
    return _ADDRESS.fullmatch(text) is not None


def is_web_address(text: str) -> bool:
    """Whether a text is an http(s) address that may be put into a request line as it is."""
    if not re.fullmatch(r"[!-~]+", text):
        return False
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


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


class ClusterSettings(BaseModel):
    """One cluster of several: what its sections say. Nothing is taken over from another cluster's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ssh: SshSettings
    slurm: SlurmSettings = SlurmSettings()
    accounts: AccountSettings = Field(default_factory=AccountSettings)


class WorkflowSettings(Section):
    """One workflow: `<name>` and what begins with it."""

    path: Annotated[str, AfterValidator(_below_the_images)] = Field(
        description="Folder of its images, below `slurm_images_path`."
    )
    repo: str = Field(
        "",
        description="Where its descriptor is: a repository at GitHub or GitLab (with `/tree/<ref>`), any address, "
        "or the path of a folder or descriptor on this machine.",
    )
    job: str = Field(
        "", description="There is one job script, and it comes with this program.", json_schema_extra={"ignored": True}
    )
    job_params: dict[str, str] = Field(
        default_factory=dict,
        description="`--<flag>=<value>` for its jobs, over all other settings; for a flag without value write `true`.",
    )
    cluster: str = Field(
        "",
        description="The cluster that it runs on, of several: the name in `[SSH:<cluster>]`. Unset: that of `[SSH]`.",
    )
    use_gpu: bool = Field(False, description="Whether its jobs get a GPU.")
