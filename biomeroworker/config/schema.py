"""The settings: name, meaning, default, checks, and the environment variables that override each.

Together with `cluster_settings` and `node_settings` this is the only source of the keys of the ini file, of the tables
in the documentation, and of ``config show``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from biomeroworker.config.fields import LocalPath, Section, ignored, setting
from biomeroworker.domain import accepts


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder for persistent data of this program, after the XDG Base Directory specification."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base) / "biomeroworker"


def _is_below_images(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.strip("/").split("/")):
        raise ValueError("write a folder below slurm_images_path, such as the name of the workflow")
    return path


def _are_conditions(text: str) -> str:
    accepts.parse(text)
    return text


#: The parts of a database URL as SQLAlchemy reads them, https://docs.sqlalchemy.org/en/20/core/engines.html. Importing
#: SQLAlchemy for this check would add half a second to the opening of a dialog.
_DATABASE_URL = re.compile(
    r"(?P<backend>\w+)(?:\+\w+)?://(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]+)?(?::\d*)?(?:[/?].*)?", re.DOTALL
)


class AnalyticsSettings(Section):
    """The database with the events of all runs."""

    track_workflows: bool = ignored(True, "All runs are recorded.")
    enable_job_accounting: bool = ignored(True, "The table is always written.")
    enable_job_progress: bool = ignored(True, "The tables are always written.")
    enable_workflow_analytics: bool = ignored(True, "The table is always written.")
    sqlalchemy_url: SecretStr | None = setting(
        None,
        "URL of the database, such as `postgresql+psycopg2://user:password@host/name`. "
        "Unset: the SQLite file `~/.local/state/biomeroworker/runs.sqlite`.",
        "SQLALCHEMY_URL",
    )
    analytics_rebuild_start_time: str | None = ignored(
        None, "Tables are always rebuilt completely.", "BIOMERO_ANALYTICS_REBUILD_START_TIME"
    )
    analytics_rebuild_days_ago: int | None = ignored(
        None, "Tables are always rebuilt completely.", "BIOMERO_ANALYTICS_REBUILD_DAYS_AGO", ge=0
    )

    @field_validator("sqlalchemy_url")
    @classmethod
    def _is_supported(cls, value: SecretStr | None) -> SecretStr | None:
        """Check for the URL of a supported database; no message shows it, because it contains a password."""
        if value is not None:
            found = _DATABASE_URL.fullmatch(value.get_secret_value())
            if found is None:
                raise ValueError("write a URL such as postgresql+psycopg2://user:password@host/name")
            if found["backend"] not in ("postgresql", "postgres", "sqlite"):
                raise ValueError("the URL must start with postgresql+psycopg2:// or sqlite:///")
        return value


class WorkerSettings(Section):
    """The supervisor and this machine."""

    descriptor_refresh_hours: float = setting(
        24.0,
        "Age in hours after which the descriptor of a workflow is downloaded again. If that fails, the copy is used.",
        gt=0,
    )
    work_folder: LocalPath = Field(
        default_factory=lambda: state_folder() / "work",
        description="Folder on this machine for inputs and results of unfinished runs.",
        json_schema_extra={"env": ["BIOMERO_WORK_FOLDER"], "default": "~/.local/state/biomeroworker/work"},
    )
    retry_hours: float = setting(6.0, "Hours of retries after a temporary failure; then the run is paused.", gt=0)
    retention_days: float = setting(
        14.0,
        "Days until the data of an ended run is removed from the cluster and from `work_folder`. 0: never.",
        ge=0,
    )


class NotificationSettings(Section):
    """Notifications about the end of a run: e-mail to the user, and a request to a web service.

    Passwords are read from the environment only: `BIOMERO_SMTP_PASSWORD` and `BIOMERO_WEBHOOK_SECRET`.
    """

    smtp_from: str | None = setting(None, "Sender address of e-mails.", "BIOMERO_SMTP_FROM")
    smtp_tls: Literal["starttls", "tls", "none"] = setting(
        "starttls", "Encryption: `starttls`, `tls` from the first byte, or `none`.", "BIOMERO_SMTP_TLS"
    )
    smtp_user: str | None = setting(
        None, "User name for the mail server; the password is in `BIOMERO_SMTP_PASSWORD`.", "BIOMERO_SMTP_USER"
    )
    smtp_host: str | None = setting(None, "Mail server; requires `smtp_from`. Unset: no e-mails.", "BIOMERO_SMTP_HOST")
    smtp_port: int | None = setting(
        None, "Port of the mail server. Unset: 587, 465 or 25, by `smtp_tls`.", "BIOMERO_SMTP_PORT", ge=1, le=65535
    )
    webhook_url: SecretStr | None = setting(
        None,
        "`http` or `https` URL that receives a POST request with JSON at the end of each run, signed if "
        "`BIOMERO_WEBHOOK_SECRET` is set. Unset: no requests.",
        "BIOMERO_WEBHOOK_URL",
    )
    give_up_days: float = setting(7.0, "Days of retries for a notification.", gt=0)

    @field_validator("smtp_from")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not is_address(value):
            raise ValueError("write an e-mail address such as biomero@example.org")
        return value

    @field_validator("smtp_host")
    @classmethod
    def _is_complete(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Check the section here, because this key enables e-mail."""
        if value is not None and not re.fullmatch(r"[A-Za-z0-9.:_-]+", value):
            raise ValueError("write a host name")
        if value is not None and "smtp_from" in info.data and not info.data["smtp_from"]:
            raise ValueError("set smtp_from as well")
        if value is not None and info.data.get("smtp_user") and info.data.get("smtp_tls") == "none":
            raise ValueError("smtp_user would send its password unencrypted: set smtp_tls to starttls or tls")
        return value

    @field_validator("webhook_url")
    @classmethod
    def _is_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        """Check for a URL. No message shows it, because the URL of a webhook is often a secret."""
        if value is not None and not is_web_address(value.get_secret_value()):
            raise ValueError("write an http or https URL without a user name and without spaces")
        return value


_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,186}[A-Za-z0-9])?")


def is_address(text: str) -> bool:
    """Whether a text is one ASCII e-mail address (dot-atom form of RFC 5321), which is safe in a header."""
    return _ADDRESS.fullmatch(text) is not None


def is_web_address(text: str) -> bool:
    """Whether a text is an http(s) URL that is safe in a request line."""
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
    """One workflow: the key `<name>` and the keys that start with it."""

    path: Annotated[str, AfterValidator(_is_below_images)] = Field(
        description="Folder of the workflow's images below `slurm_images_path`."
    )
    repo: str = Field(
        "",
        description="Descriptor of the workflow: a repository at GitHub or GitLab (with `/tree/<ref>`), any other URL, "
        "or the path of a file or folder on this machine.",
    )
    job: str = Field(
        "",
        description="Path of its job script below `slurm_script_path`. Unset: `jobs/<name>.sh`. Runs do not use it.",
    )
    job_params: dict[str, str] = Field(
        default_factory=dict,
        description="`--<flag>=<value>` for its jobs; overrides other settings. Flag without a value: `true`.",
    )
    cluster: str = Field(
        "",
        description="Cluster of the workflow: the name in `[SSH:<cluster>]`. Unset: the cluster of `[SSH]`.",
    )
    use_gpu: bool = Field(False, description="Whether its jobs use a GPU.")
    accepts: Annotated[str, AfterValidator(_are_conditions)] = Field(
        "",
        description="Conditions for its input images, such as `dimensions: 2D; channels: 1-3`. A run with other images "
        "is refused before anything is computed. Unset: only the conditions of the descriptor.",
    )
