"""The attributes of `SlurmClient` that are settings, and the ini files that they come from."""

from __future__ import annotations

import configparser
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from biomero.compat.arguments import options_of, words_of
from biomeroworker.config import SECTIONS, Settings, WorkflowSettings
from biomeroworker.config.files import ALONE_VARIABLE
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.job_scripts import job_script_name

logger = logging.getLogger(__name__)


def _expanded(path: str) -> str:
    return str(Path(path).expanduser()) if path else ""


class Setting:
    """An attribute of the client that is a setting of a section of the ini file. Setting it changes the client only."""

    def __init__(self, section: str) -> None:
        self._section = section

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = SECTIONS[self._section].model_fields[name].description

    def __get__(self, client: ClientSettings | None, owner: type) -> Any:
        if client is None:
            return self
        found = getattr(client._section(self._section), self._name)
        return found.get_secret_value() if hasattr(found, "get_secret_value") else found

    def __set__(self, client: ClientSettings, value: Any) -> None:
        client._change(self._section, self._name, value)


class WorkflowMapping:
    """An attribute of the client that has one value for each workflow."""

    def __init__(self, field: str, doc: str) -> None:
        self._field = field
        self.__doc__ = doc

    def __get__(self, client: ClientSettings | None, owner: type) -> Any:
        if client is None:
            return self
        return {name: getattr(one, self._field) for name, one in client.settings.workflows.items()}

    def __set__(self, client: ClientSettings, values: Mapping[str, Any] | None) -> None:
        client._change_workflows(self._field, values or {})


class ClientSettings:
    """The part of `SlurmClient` that has to do with settings.

    Examples
    --------
    >>> client = SlurmClient(host="cluster", config_only=True)
    >>> client.slurm_data_path
    'my-scratch/data'
    >>> client.slurm_data_path = "/scratch/biomero"
    >>> client.slurm_data_path
    '/scratch/biomero'
    """

    deployment: Deployment

    _DEFAULT_CONFIG_PATH_1: ClassVar[str] = "/etc/slurm-config.ini"
    _DEFAULT_CONFIG_PATH_2: ClassVar[str] = "/OMERO/slurm-config.ini"
    _DEFAULT_CONFIG_PATH_3: ClassVar[str] = "~/slurm-config.ini"

    slurm_data_path = Setting("SLURM")
    slurm_images_path = Setting("SLURM")
    slurm_converters_path = Setting("SLURM")
    slurm_script_path = Setting("SLURM")
    slurm_script_repo = Setting("SLURM")
    slurm_data_bind_path = Setting("SLURM")
    slurm_conversion_partition = Setting("SLURM")
    slurm_default_partition = Setting("SLURM")
    sacct_start_time = Setting("SLURM")
    sacct_days_ago = Setting("SLURM")
    env_file_submission = Setting("SLURM")
    inject_gpu_flag = Setting("SLURM")
    gpu_partition = Setting("SLURM")
    gpu_gres = Setting("SLURM")
    gpu_gpus = Setting("SLURM")
    slurm_image_pull_via_sbatch = Setting("SLURM")
    image_pull_cpus = Setting("SLURM")
    image_pull_mem = Setting("SLURM")
    apptainer_tmpdir = Setting("SLURM")
    apptainer_cachedir = Setting("SLURM")
    slurm_zip_cmd = Setting("SLURM")
    inline_ssh_env = Setting("SSH")
    track_workflows = Setting("ANALYTICS")
    enable_job_accounting = Setting("ANALYTICS")
    enable_job_progress = Setting("ANALYTICS")
    enable_workflow_analytics = Setting("ANALYTICS")
    analytics_rebuild_start_time = Setting("ANALYTICS")
    analytics_rebuild_days_ago = Setting("ANALYTICS")

    slurm_model_paths = WorkflowMapping("path", "Folder of each workflow's images, below `slurm_images_path`.")
    slurm_model_repos = WorkflowMapping("repo", "Where each workflow's descriptor is.")
    slurm_model_use_gpu = WorkflowMapping("use_gpu", "Whether each workflow gets a GPU.")

    # -- the files ----------------------------------------------------------------------------------------------------

    @classmethod
    def get_authoritative_config_path(cls) -> str | None:
        """The file of ``BIOMERO_SLURM_CONFIG_FILE``, which replaces all other files; None if it is not set."""
        named = os.environ.get(ALONE_VARIABLE, "").strip()
        return str(Path(named).expanduser()) if named else None

    @classmethod
    def get_config_paths(cls, configfile: str = "") -> list[str]:
        """The ini files that are read, later ones over earlier ones."""
        alone = cls.get_authoritative_config_path()
        if alone:
            return [alone]
        return [_expanded(path) for path in (*cls._standard_paths(), configfile)]

    @classmethod
    def get_config_write_path(cls) -> str:
        """The ini file that an administration page writes."""
        return cls.get_authoritative_config_path() or _expanded(cls._DEFAULT_CONFIG_PATH_3)

    @classmethod
    def load_config(cls, configfile: str = "") -> configparser.ConfigParser:
        """The text of the ini files, merged. A ``%`` is an ordinary character; files that do not exist are left out."""
        parser = configparser.ConfigParser(allow_no_value=True, interpolation=None)
        parser.read([path for path in cls.get_config_paths(configfile) if path], encoding="utf-8-sig")
        return parser

    @classmethod
    def _standard_paths(cls) -> tuple[str, str, str]:
        return cls._DEFAULT_CONFIG_PATH_1, cls._DEFAULT_CONFIG_PATH_2, cls._DEFAULT_CONFIG_PATH_3

    @classmethod
    def _load_settings(cls, configfile: str) -> Settings:
        """The settings of the files; a named file is not read if one file replaces all others."""
        named = None if cls.get_authoritative_config_path() else configfile or None
        return Settings.load(named, standard=[Path(path).expanduser() for path in cls._standard_paths()])

    # -- the values ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.deployment.settings

    @property
    def sqlalchemy_url(self) -> str:
        """The URL of the event log's database, with its password."""
        return self.settings.database_url

    @sqlalchemy_url.setter
    def sqlalchemy_url(self, url: str) -> None:
        self._change("ANALYTICS", "sqlalchemy_url", url)

    @property
    def slurm_model_jobs(self) -> dict[str, str]:
        """The job script of each workflow, below `slurm_script_path`."""
        return {name: job_script_name(self.settings, name) for name in self.settings.workflows}

    @slurm_model_jobs.setter
    def slurm_model_jobs(self, jobs: Mapping[str, str] | None) -> None:
        self._change_workflows("job", jobs or {})

    @property
    def slurm_model_jobs_params(self) -> dict[str, list[str]]:
        """Options of sbatch for each workflow's jobs."""
        return {name: words_of(one.job_params) for name, one in self.settings.workflows.items()}

    @slurm_model_jobs_params.setter
    def slurm_model_jobs_params(self, options: Mapping[str, list[str]] | None) -> None:
        self._change_workflows("job_params", {name: options_of(words) for name, words in (options or {}).items()})

    @property
    def slurm_global_job_params(self) -> list[str]:
        """Options of sbatch for all jobs."""
        return words_of(self.settings.default_cluster.slurm.sbatch)

    @slurm_global_job_params.setter
    def slurm_global_job_params(self, words: list[str] | None) -> None:
        self._change("SLURM", "sbatch", options_of(words or ()))

    @property
    def converter_images(self) -> dict[str, str]:
        """Image of each converter."""
        return dict(self.settings.converters)

    @converter_images.setter
    def converter_images(self, images: Mapping[str, str] | None) -> None:
        self._use(self.settings.model_copy(update={"converters": dict(images or {})}))

    def _section(self, name: str) -> Any:
        part: Any = self.settings if name == "ANALYTICS" else self.settings.default_cluster
        return getattr(part, name.lower())

    def _change(self, section: str, key: str, value: Any) -> None:
        old = self._section(section)
        new = type(old).model_validate({**{name: getattr(old, name) for name in type(old).model_fields}, key: value})
        if section == "ANALYTICS":
            changed = self.settings.model_copy(update={"analytics": new})
        else:
            cluster = self.settings.default_cluster.model_copy(update={section.lower(): new})
            clusters = {**self.settings.clusters, cluster.name: cluster}
            changed = self.settings.model_copy(update={"clusters": clusters})
        self._use(changed, reopen=section != "ANALYTICS" or key == "sqlalchemy_url")

    def _change_workflows(self, field: str, values: Mapping[str, Any]) -> None:
        workflows = dict(self.settings.workflows)
        for name, value in values.items():
            old = workflows.get(name)
            known = {one: getattr(old, one) for one in WorkflowSettings.model_fields} if old else {"path": name}
            workflows[name] = WorkflowSettings.model_validate({**known, field: value})
        self._use(self.settings.model_copy(update={"workflows": workflows}))

    def _use(self, settings: Settings, *, reopen: bool = True) -> None:
        """Use other settings from now on; connections that were opened with the old ones are closed."""
        self.deployment.settings = settings
        if reopen:
            self.deployment.close()
            self.deployment.__dict__.pop("catalogue", None)
