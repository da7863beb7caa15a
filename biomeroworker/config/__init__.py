"""The settings: ``slurm-config.ini`` and the environment, typed, checked and frozen.

Later sources win: packaged defaults, ``/etc``, ``/OMERO``, the home folder, the file that was named, the environment.
They add and change; they cannot delete, for a blank value is no value. A wrong one stops the program with the file,
the line, the key and what is allowed; an unknown key is a warning, because old files carry many.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from sqlalchemy.engine import make_url

from biomeroworker.config import ini
from biomeroworker.config.ini import Value
from biomeroworker.config.schema import (
    AnalyticsSettings,
    NotificationSettings,
    Section,
    SlurmSettings,
    SshSettings,
    WorkerSettings,
    WorkflowSettings,
    state_folder,
)
from biomeroworker.config.workflows import describe
from biomeroworker.errors import ConfigError
from biomeroworker.log.plain import masked

__all__ = [
    "SECTIONS",
    "AnalyticsSettings",
    "NotificationSettings",
    "Settings",
    "SlurmSettings",
    "SshSettings",
    "WorkerSettings",
    "WorkflowSettings",
    "settings_table",
    "standard_files",
]

#: The sections whose keys are fixed.
SECTIONS: Mapping[str, type[Section]] = {
    "SSH": SshSettings,
    "SLURM": SlurmSettings,
    "ANALYTICS": AnalyticsSettings,
    "WORKER": WorkerSettings,
    "NOTIFICATIONS": NotificationSettings,
}

#: They name the configuration file where no other is named; the second is what old deployments set.
FILE_VARIABLES = ("BIOMERO_CONFIG", "BIOMERO_SLURM_CONFIG_FILE")

_SBATCH = "sbatch_"

#: Keys whose values no message shows.
_SECRETS = frozenset(
    key
    for kind in SECTIONS.values()
    for key, field in kind.model_fields.items()
    if "SecretStr" in str(field.annotation)
)


class Settings(BaseModel):
    """All settings in force. Attributes are named after the ini file's sections and keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ssh: SshSettings = SshSettings()
    slurm: SlurmSettings = SlurmSettings()
    analytics: AnalyticsSettings = AnalyticsSettings()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    notifications: NotificationSettings = NotificationSettings()
    workflows: dict[str, WorkflowSettings] = Field(default_factory=dict)
    converters: dict[str, str] = Field(default_factory=dict)  #: image by ``<source>_to_<target>``
    origins: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)  #: by ``SECTION.key``
    warnings: tuple[str, ...] = Field((), repr=False, exclude=True)  #: keys that mean nothing
    state: Path = Field(default_factory=state_folder, repr=False, exclude=True)

    @model_validator(mode="after")
    def _one_way_to_ask_for_gpus(self) -> Self:
        if self.slurm.gpu_gres and self.slurm.gpu_gpus:
            raise ValueError("gpu_gres and gpu_gpus exclude each other: set one of them")
        return self

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        standard: Sequence[Path] | None = None,
    ) -> Settings:
        """The settings in force.

        Parameters
        ----------
        path
            A file over the standard ones; where it is None, the one that ``BIOMERO_CONFIG`` names.
        standard
            The standard files, later ones winning, where others than `standard_files` are meant.

        Raises
        ------
        ConfigError
            The named file cannot be read, or a value is wrong.
        """
        with resources.as_file(resources.files("biomeroworker") / "slurm-config.ini") as packaged:
            values = list(ini.read(packaged))
        for file in standard_files(environ) if standard is None else standard:
            if file.is_file():
                values += ini.read(file)
        named = path or next(filter(None, map(environ.get, FILE_VARIABLES)), None)
        if named:
            values += ini.read(Path(named).expanduser())
        values += _from_environment(environ)
        return _build(cls, values, environ)

    @property
    def database_url(self) -> str:
        """Where the log of runs is kept, password and all: hand it to the database, never to a person."""
        url = self.analytics.sqlalchemy_url
        return url.get_secret_value() if url else f"sqlite:///{self.state / 'runs.sqlite'}"

    @property
    def database_shown(self) -> str:
        """The same for people."""
        return _without_password(self.database_url)

    def shown(self) -> dict[str, str]:
        """Every setting as text by ``SECTION.key``, with passwords masked."""
        lines: dict[str, str] = {}
        for name, kind in SECTIONS.items():
            section = getattr(self, name.lower())
            for key in kind.model_fields:
                value = getattr(section, key)
                if isinstance(value, dict):
                    lines.update({f"{name}.{_SBATCH}{flag}": masked(text) for flag, text in value.items()})
                elif isinstance(value, SecretStr):
                    lines[f"{name}.{key}"] = _without_secret(key, value.get_secret_value())
                else:
                    lines[f"{name}.{key}"] = masked(_text(value))
        for conversion, image in self.converters.items():
            lines[f"CONVERTERS.{conversion}"] = masked(image)
        for workflow, settings in self.workflows.items():
            lines[f"WORKFLOWS.{workflow}"] = settings.path
            for key in ("repo", "job", "use_gpu"):
                if text := _text(getattr(settings, key)):
                    lines[f"WORKFLOWS.{workflow}_{key}"] = masked(text)
            for flag, text in settings.job_params.items():
                lines[f"WORKFLOWS.{workflow}_job_{flag}"] = masked(text)
        return lines


def standard_files(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The files that are read where they exist, later ones winning."""
    home = Path(environ.get("HOME") or Path.home())
    return [Path("/etc/slurm-config.ini"), Path("/OMERO/slurm-config.ini"), home / "slurm-config.ini"]


def _from_environment(environ: Mapping[str, str]) -> Iterable[Value]:
    for section, kind in SECTIONS.items():
        for key, field in kind.model_fields.items():
            for variable in _extra(field).get("env", []):
                if text := environ.get(variable, "").strip():
                    yield Value(section, key, text, f"environment {variable}")
                    break


def _build(cls: type[Settings], values: Iterable[Value], environ: Mapping[str, str]) -> Settings:
    """Later values over earlier ones, sorted into the schema."""
    last: dict[tuple[str, str], Value] = {}
    legacy: dict[tuple[str, str], Value] = {}
    for value in values:
        target = legacy if value.section == "MODELS" else last
        section = "WORKFLOWS" if value.section == "MODELS" else value.section
        target[section, value.key] = value
    last = legacy | last  # [MODELS] is what [WORKFLOWS] was called once, and gives way to it

    data: dict[str, Any] = {name.lower(): {} for name in SECTIONS} | {"converters": {}}
    data["worker"]["work_folder"] = str(state_folder(environ) / "work")
    places: dict[tuple[str | int, ...], Value] = {}
    warnings = []
    for (section, key), value in last.items():
        if section == "WORKFLOWS":
            continue
        if section == "CONVERTERS":
            place: tuple[str, ...] = ("converters", key)
        elif section == "SLURM" and key.startswith(_SBATCH) and len(key) > len(_SBATCH):
            place = ("slurm", "sbatch", key.removeprefix(_SBATCH))
        elif section in SECTIONS and key in SECTIONS[section].model_fields and key != "sbatch":
            place = (section.lower(), key)
        else:
            warnings.append(f"{value.origin}: {_unknown(section, key)}")
            continue
        inner = data
        for step in place[:-1]:
            inner = inner.setdefault(step, {})
        inner[place[-1]] = value.text
        places[place] = value
    keys = {key: value for (section, key), value in last.items() if section == "WORKFLOWS"}
    data["workflows"], where, lost = describe({key: value.text for key, value in keys.items()})
    places |= {("workflows", *place): keys[key] for key, place in where.items()}
    warnings += [f"{keys[key].origin}: [WORKFLOWS] {key} belongs to no workflow" for key in lost]
    origins = {
        f"{'WORKFLOWS' if value.section == 'MODELS' else value.section}.{value.key}": value.origin
        for value in places.values()
    }
    try:
        return cls.model_validate(
            data | {"origins": origins, "warnings": tuple(warnings), "state": state_folder(environ)}
        )
    except ValidationError as error:
        raise ConfigError(_told(error, places)) from None


def _told(error: ValidationError, places: Mapping[tuple[str | int, ...], Value]) -> str:
    """All that is wrong, a line each: where, what, and what is allowed."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        place = tuple(problem["loc"])
        while place and place not in places:
            place = place[:-1]
        message = problem["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        if not place:
            gpu = [places["slurm", key] for key in ("gpu_gres", "gpu_gpus") if ("slurm", key) in places]
            lines.append(f"{', '.join(value.origin for value in gpu)}: [SLURM] {message}")
            continue
        value = places[place]
        shown = "" if value.key in _SECRETS else f" = {value.text!r}"
        lines.append(f"{value.origin}: [{value.section}] {value.key}{shown}: {message}")
    return "\n".join(lines)


def _unknown(section: str, key: str) -> str:
    if section not in SECTIONS:
        return f"there is no section [{section}]"
    close = difflib.get_close_matches(key, SECTIONS[section].model_fields, n=1)
    return f"[{section}] {key} is not a setting" + (f"; is {close[0]} meant?" if close else "")


def _without_password(url: str) -> str:
    """A URL for people. Masked twice: an ``@`` in a password ends it for one reader, not for the other."""
    return masked(make_url(url).render_as_string(hide_password=True))


def _without_secret(key: str, text: str) -> str:
    """The path of a web hook's address is what keeps strangers from using it."""
    if key == "webhook_url":
        scheme, _, rest = text.partition("://")
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/***"
    return _without_password(text)


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(value)
    return str(value)


def _extra(field: Any) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def settings_table() -> str:
    """The settings as Markdown tables, a section each, for the documentation."""
    lines: list[str] = []
    for name, kind in SECTIONS.items():
        lines += [
            f"### [{name}]",
            "",
            _summary(kind),
            "",
            "| key | default | environment | meaning |",
            "|---|---|---|---|",
        ]
        for key, field in kind.model_fields.items():
            extra = _extra(field)
            default = extra.get("default") or _text(None if field.default_factory else field.default)
            shown = f"`{default}`".replace("|", "\\|") if default else ""
            variables = ", ".join(f"`{variable}`" for variable in extra.get("env", []))
            lines.append(f"| `{extra.get('ini', key)}` | {shown} | {variables} | {field.description} |")
        lines.append("")
    lines += ["### [WORKFLOWS]", "", _summary(WorkflowSettings), "", "| key | default | meaning |", "|---|---|---|"]
    for key, field in WorkflowSettings.model_fields.items():
        spelled = {"path": "<name>", "job_params": "<name>_job_<flag>"}.get(key, f"<name>_{key}")
        default = f"`{_text(field.default)}`" if isinstance(field.default, bool) else ""
        lines.append(f"| `{spelled}` | {default} | {field.description} |")
    lines += ["", "### [CONVERTERS]", "", "`<source>_to_<target> = image`, such as `zarr_to_tiff = name/image:tag`."]
    return "\n".join(lines) + "\n"


def _summary(kind: type[BaseModel]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")
