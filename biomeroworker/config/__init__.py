"""The settings: ``slurm-config.ini`` and the environment, typed, checked and frozen.

Later sources win: packaged defaults, the files (see `biomeroworker.config.files`), the environment.
They add and change; they cannot delete, for a blank value is no value. A wrong one stops the program with the file,
the line, the key and what is allowed; an unknown key is a warning, because old files carry many.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from biomeroworker.config import ini, merging, rendering
from biomeroworker.config.fields import Section
from biomeroworker.config.files import config_files, standard_files
from biomeroworker.config.ini import Value
from biomeroworker.config.node_settings import NodeSettings
from biomeroworker.config.schema import (
    AccountSettings,
    AnalyticsSettings,
    ClusterSettings,
    NotificationSettings,
    SlurmSettings,
    SshSettings,
    WorkerSettings,
    WorkflowSettings,
    state_folder,
)
from biomeroworker.domain.redaction import mask_credentials
from biomeroworker.errors import ConfigError

__all__ = [
    "SECTIONS",
    "AccountSettings",
    "AnalyticsSettings",
    "ClusterSettings",
    "NodeSettings",
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
    "NODE": NodeSettings,
    "NOTIFICATIONS": NotificationSettings,
}

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
    accounts: AccountSettings = Field(default_factory=AccountSettings)
    analytics: AnalyticsSettings = AnalyticsSettings()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    node: NodeSettings = NodeSettings()
    notifications: NotificationSettings = NotificationSettings()
    clusters: dict[str, ClusterSettings] = Field(default_factory=dict)  #: those with a name
    workflows: dict[str, WorkflowSettings] = Field(default_factory=dict)
    converters: dict[str, str] = Field(default_factory=dict)  #: image by ``<source>_to_<target>``
    origins: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)  #: by ``SECTION.key``
    warnings: tuple[str, ...] = Field((), repr=False, exclude=True)  #: keys that mean nothing
    files: tuple[Path, ...] = Field((), repr=False, exclude=True)  #: that were read, later ones winning
    files_rule: str = Field("", repr=False, exclude=True)  #: why these, as a sentence
    state: Path = Field(default_factory=state_folder, repr=False, exclude=True)
    cluster: str = Field("", repr=False, exclude=True)  #: whose `ssh`, `slurm` and `accounts` these are, see `on`

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
            A file over the others; where it is None, the one that ``BIOMERO_CONFIG`` names.
        standard
            The standard files, later ones winning, where others than `standard_files` are meant.

        Raises
        ------
        ConfigError
            The named file cannot be read, or a value is wrong.
        """
        with resources.as_file(resources.files("biomeroworker") / "slurm-config.ini") as packaged:
            values = list(ini.read(packaged))
        files = config_files(environ, path, standard)
        read = files.existing
        for file in read:
            values += ini.read(file)
        values += _from_environment(environ)
        return _build(cls, values, environ, {"files": read, "files_rule": files.rule})

    # -- several clusters ---------------------------------------------------------------------------------------------

    @property
    def cluster_names(self) -> tuple[str, ...]:
        """All clusters; the one without a name (``[SSH]``, ``[SLURM]``) is ``""`` and comes first."""
        return ("", *self.clusters)

    @property
    def clusters_in_use(self) -> tuple[str, ...]:
        """Those that a workflow may run on: a configuration may name all of its clusters, and have none without."""
        nameless = not self.clusters or any(not one.cluster for one in self.workflows.values())
        return tuple(name for name in self.cluster_names if name or nameless)

    @property
    def default_cluster(self) -> Self:
        """The settings of the cluster that is meant where none is named: the one without a name, or else the first."""
        return self.for_cluster(self.clusters_in_use[0]) if not self.cluster else self

    def for_cluster(self, cluster: str) -> Self:
        """The same settings with `ssh`, `slurm` and `accounts` of a cluster; KeyError for one that there is not.

        It is asked of the settings as they were loaded, not of those of a cluster with a name.
        """
        if cluster == self.cluster:
            return self
        of = self.clusters[cluster]
        return self.model_copy(update={"ssh": of.ssh, "slurm": of.slurm, "accounts": of.accounts, "cluster": cluster})

    def section(self, name: str) -> str:
        """How a section is called in the ini: ``SLURM``, or ``SLURM:<cluster>`` for settings of one with a name."""
        return f"{name}:{self.cluster}" if self.cluster and name in merging.OF_A_CLUSTER else name

    def line(self, section: str, key: str) -> str:
        """Where to change a setting: ``file:line: [SECTION] key``; without a line where nobody has set it."""
        section = self.section(section)
        origin = self.origins.get(f"{section}.{key}", "")
        return f"{origin}: [{section}] {key}" if origin else f"[{section}] {key}"

    # -- the database -------------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """Where the log of runs is kept, password and all: hand it to the database, never to a person."""
        url = self.analytics.sqlalchemy_url
        return url.get_secret_value() if url else f"sqlite:///{self.state / 'runs.sqlite'}"

    @property
    def database_shown(self) -> str:
        """The same for people."""
        return rendering.without_password(self.database_url)

    def shown(self) -> dict[str, str]:
        """Every setting as text by ``SECTION.key``, with passwords masked."""
        lines: dict[str, str] = {}
        for name in SECTIONS:
            lines.update(rendering.section_lines(name, getattr(self, name.lower())))
        lines.update(rendering.account_lines("ACCOUNTS", self.accounts))
        for cluster, of in self.clusters.items():
            lines.update(rendering.section_lines(f"SSH:{cluster}", of.ssh))
            lines.update(rendering.section_lines(f"SLURM:{cluster}", of.slurm))
            lines.update(rendering.account_lines(f"ACCOUNTS:{cluster}", of.accounts))
        for conversion, image in self.converters.items():
            lines[f"CONVERTERS.{conversion}"] = mask_credentials(image)
        for workflow, settings in self.workflows.items():
            lines.update(rendering.workflow_lines(workflow, settings))
        return lines


def settings_table() -> str:
    """The settings as Markdown tables, a section each, for the documentation."""
    return rendering.settings_table(SECTIONS)


def _from_environment(environ: Mapping[str, str]) -> Iterable[Value]:
    for section, kind in SECTIONS.items():
        for key, field in kind.model_fields.items():
            for variable in rendering.field_extras(field).get("env", []):
                if text := environ.get(variable, "").strip():
                    yield Value(section, key, text, f"environment {variable}")
                    break


def _build(
    cls: type[Settings], values: Iterable[Value], environ: Mapping[str, str], more: Mapping[str, object]
) -> Settings:
    """The values, sorted into the schema and checked."""
    found = merging.merge(values, SECTIONS)
    found.data["worker"].setdefault("work_folder", str(state_folder(environ) / "work"))
    if told := merging.contradictions(found):
        raise ConfigError("\n".join(told))
    try:
        return cls.model_validate(
            {
                **found.data,
                **more,
                "origins": found.origins,
                "warnings": tuple(found.warnings),
                "state": state_folder(environ),
            }
        )
    except ValidationError as error:
        raise ConfigError(_told(error, found.places)) from None


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
            lines.append(message)
            continue
        value = places[place]
        shown = "" if value.key in _SECRETS else f" = {value.text!r}"
        lines.append(f"{value.origin}: [{value.section}] {value.key}{shown}: {message}")
    return "\n".join(lines)
