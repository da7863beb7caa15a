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

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from biomeroworker.config.fields import LocalPath, Section, ignored, setting


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where this program keeps what must survive it, after the XDG Base Directory specification."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base) / "biomeroworker"


def _below_the_images(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
        raise ValueError("should be a folder below slurm_images_path, such as the workflow's name")
    return path


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
