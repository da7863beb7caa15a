"""The settings from ``slurm-config.ini`` and the environment, typed, checked and frozen.

Sources are the packaged defaults, the files (see `biomeroworker.config.files`) and the environment; later sources
override earlier ones. A source can add and change values but not delete them, because blank values are ignored. An
invalid value is an error with file, line, key and the allowed values; an unknown key is a warning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from biomeroworker.config import ini, merging, rendering
from biomeroworker.config.cluster_settings import (
    CLUSTER_SECTIONS,
    AccountSettings,
    ClusterSettings,
    SlurmSettings,
    SshSettings,
)
from biomeroworker.config.fields import Located, Section
from biomeroworker.config.files import config_files, standard_files
from biomeroworker.config.ini import Value
from biomeroworker.config.node_settings import NodeSettings
from biomeroworker.config.schema import (
    AnalyticsSettings,
    NotificationSettings,
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
    "environment_values",
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

#: Keys whose values never appear in messages.
_SECRETS = frozenset(
    key
    for kind in SECTIONS.values()
    for key, field in kind.model_fields.items()
    if "SecretStr" in str(field.annotation)
)


class Settings(Located):
    """All settings in force. Attributes are named after the ini file's sections and keys."""

    #: By name; ``""`` is the cluster of ``[SSH]`` and ``[SLURM]`` and is always there, as the first.
    clusters: dict[str, ClusterSettings] = Field(default_factory=lambda: {"": ClusterSettings()})
    analytics: AnalyticsSettings = AnalyticsSettings()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    node: NodeSettings = NodeSettings()
    notifications: NotificationSettings = NotificationSettings()
    workflows: dict[str, WorkflowSettings] = Field(default_factory=dict)
    converters: dict[str, str] = Field(default_factory=dict)  #: image by ``<source>_to_<target>``
    warnings: tuple[str, ...] = Field((), repr=False, exclude=True)  #: about keys that have no effect
    files: tuple[Path, ...] = Field((), repr=False, exclude=True)  #: the files that were read; later ones win
    files_rule: str = Field("", repr=False, exclude=True)  #: why these files, as a sentence
    state: Path = Field(default_factory=state_folder, repr=False, exclude=True)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        environ: Mapping[str, str] = os.environ,
        *,
        standard: Sequence[Path] | None = None,
    ) -> Settings:
        """Read all sources.

        Parameters
        ----------
        path
            A file to read after the others. None: the file of ``BIOMERO_CONFIG``, if that is set.
        standard
            Files to use instead of `standard_files`; later files override earlier ones.

        Raises
        ------
        ConfigError
            A file cannot be read, or a value is invalid.
        """
        values = _packaged()
        files = config_files(environ, path, standard)
        read = files.existing
        for file in read:
            values += ini.read(file)
        values += environment_values(environ)
        return _build(cls, values, environ, {"files": read, "files_rule": files.rule})

    @classmethod
    def from_values(cls, values: Iterable[Value], environ: Mapping[str, str] = os.environ) -> Settings:
        """The packaged defaults with these values over them. No file and no setting of the environment is read.

        Raises
        ------
        ConfigError
            A value is wrong.
        """
        return _build(cls, [*_packaged(), *values], environ, {})

    # -- several clusters ---------------------------------------------------------------------------------------------

    @property
    def clusters_in_use(self) -> tuple[str, ...]:
        """The clusters that a workflow may run on: all, but ``""`` only if a workflow names no cluster, or there is
        no other cluster.
        """
        nameless = len(self.clusters) == 1 or any(not one.cluster for one in self.workflows.values())
        return tuple(name for name in self.clusters if name or nameless)

    @property
    def default_cluster(self) -> ClusterSettings:
        """The cluster to use where none is named: the first of `clusters_in_use`."""
        return self.clusters[self.clusters_in_use[0]]

    def workflows_on(self, cluster: str) -> dict[str, WorkflowSettings]:
        """The workflows that run on a cluster."""
        return {name: workflow for name, workflow in self.workflows.items() if workflow.cluster == cluster}

    def cluster_of(self, workflow: str) -> ClusterSettings:
        """The cluster that a workflow runs on. Raises KeyError for an unknown workflow."""
        return self.clusters[self.workflows[workflow].cluster]

    # -- the database -------------------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        """The URL of the database, with its password: never show it."""
        url = self.analytics.sqlalchemy_url
        return url.get_secret_value() if url else f"sqlite:///{self.state / 'runs.sqlite'}"

    @property
    def database_shown(self) -> str:
        """The URL of the database for display, without the password."""
        return rendering.without_password(self.database_url)

    def shown(self) -> dict[str, str]:
        """Each setting as text by ``SECTION.key``, with passwords masked."""
        lines: dict[str, str] = {}
        unnamed = self.clusters[""]
        for name in SECTIONS:
            part = unnamed if name in CLUSTER_SECTIONS else self
            lines.update(rendering.section_lines(name, getattr(part, name.lower())))
        lines.update(rendering.account_lines("ACCOUNTS", unnamed.accounts))
        for cluster in self.clusters.values():
            if cluster.name:
                lines.update(rendering.section_lines(cluster.section("SSH"), cluster.ssh))
                lines.update(rendering.section_lines(cluster.section("SLURM"), cluster.slurm))
                lines.update(rendering.account_lines(cluster.section("ACCOUNTS"), cluster.accounts))
        for conversion, image in self.converters.items():
            lines[f"CONVERTERS.{conversion}"] = mask_credentials(image)
        for workflow, settings in self.workflows.items():
            lines.update(rendering.workflow_lines(workflow, settings))
        return lines


def settings_table() -> str:
    """The settings as Markdown tables, for the documentation."""
    return rendering.settings_table(SECTIONS)


def _packaged() -> list[Value]:
    with resources.as_file(resources.files("biomeroworker") / "slurm-config.ini") as packaged:
        return list(ini.read(packaged))


def environment_values(environ: Mapping[str, str]) -> Iterable[Value]:
    """The settings that variables of the environment have."""
    for section, kind in SECTIONS.items():
        for key, field in kind.model_fields.items():
            for variable in rendering.field_extras(field).get("env", []):
                if text := environ.get(variable, "").strip():
                    yield Value(section, key, text, f"environment {variable}")
                    break


def _build(
    cls: type[Settings], values: Iterable[Value], environ: Mapping[str, str], more: Mapping[str, object]
) -> Settings:
    """Merge and check the values."""
    found = merging.merge(values, SECTIONS)
    found.data["worker"].setdefault("work_folder", str(state_folder(environ) / "work"))
    if errors := merging.contradictions(found):
        raise ConfigError("\n".join(errors))
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
        raise ConfigError(_describe(error, found.places)) from None


def _describe(error: ValidationError, places: Mapping[tuple[str | int, ...], Value]) -> str:
    """One line for each error: place, value, and what is allowed."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        place = tuple(problem["loc"])
        while place and place not in places:
            place = place[:-1]
        message = _what_to_write(problem)
        if not place:
            lines.append(message)
            continue
        value = places[place]
        shown = "" if value.key in _SECRETS else f" = {value.text!r}"
        lines.append(f"{value.origin}: [{value.section}] {value.key}{shown}: {message}")
    return "\n".join(lines)


def _what_to_write(problem: ErrorDetails) -> str:
    """The message for one error of pydantic, https://docs.pydantic.dev/latest/errors/validation_errors/."""
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "value_error":
            return str(limits["error"])
        case "bool_parsing" | "bool_type":
            return "write true or false"
        case "int_parsing" | "int_from_float":
            return "write a whole number"
        case "float_parsing":
            return "write a number"
        case "greater_than":
            return f"write a number greater than {limits['gt']:g}"
        case "greater_than_equal":
            return f"write a number that is at least {limits['ge']:g}"
        case "less_than_equal":
            return f"write a number that is at most {limits['le']:g}"
        case "literal_error":
            return f"write one of {limits['expected']}"
    return problem["msg"]
