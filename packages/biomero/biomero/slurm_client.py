"""`SlurmClient` and `SlurmJob`, under the module name that scripts import.

A `SlurmClient` has a `Deployment` of biomeroworker, which does the work, and a fabric connection, which is made at its
first use. Each method delegates to one of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from invoke import Result

from biomero.compat import overview, removed
from biomero.compat.arguments import settings_of
from biomero.compat.client_connection import ClientConnection
from biomero.compat.client_jobs import ClientJobs
from biomero.compat.client_log import ClientLog
from biomero.compat.conversion import Conversion
from biomero.compat.data import DataTransfer
from biomero.compat.errors import raises_as_biomero
from biomero.compat.jobs import Jobs
from biomero.compat.schema import DescriptorParserFactory, create_class_instance
from biomero.compat.slurm_job import SlurmJob
from biomero.compat.workflows import Workflows
from biomero.constants import slurm_env
from biomero.database import EngineManager, JobProgressView, JobView, TaskExecution, WorkflowProgressView
from biomero.eventsourcing import NoOpWorkflowTracker, WorkflowTracker
from biomero.views import JobAccounting, JobProgress, WorkflowAnalytics, WorkflowProgress
from biomeroworker.config import Settings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.job_scripts import leave_job_scripts
from biomeroworker.deployment.provision import make_folders
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import Fault
from biomeroworker.eventlog.runlog import WorkflowRun

__all__ = [
    "DescriptorParserFactory",
    "EngineManager",
    "JobAccounting",
    "JobProgress",
    "JobProgressView",
    "JobView",
    "NoOpWorkflowTracker",
    "SlurmClient",
    "SlurmJob",
    "TaskExecution",
    "WorkflowAnalytics",
    "WorkflowProgress",
    "WorkflowProgressView",
    "WorkflowTracker",
    "slurm_env",
]

logger = logging.getLogger(__name__)

#: Arguments of the constructor that are for the fabric connection alone.
_FABRIC = ("user", "port", "config", "gateway", "forward_agent", "connect_timeout", "connect_kwargs")


@raises_as_biomero
class SlurmClient(ClientConnection, ClientLog, ClientJobs):
    """One deployment, under the names of biomero.

    Making one connects to nothing and makes no table. ``client.run("squeue")`` and the other methods of fabric's
    ``Connection`` connect to the cluster at their first use.

    The constructor reads no ini file; `from_config` does. ``user``, ``port`` and the settings hold for all connections;
    ``config``, ``gateway``, ``forward_agent``, ``connect_timeout`` and ``connect_kwargs`` for the fabric connection
    only: all else connects with ``ssh``, which reads ``~/.ssh/config``.

    Examples
    --------
    >>> client = SlurmClient("cluster", slurm_default_partition="gpu", sqlalchemy_url="sqlite://")
    >>> client
    <SlurmClient 'cluster', not connected>
    >>> client.slurm_default_partition
    'gpu'
    """

    _images: dict[str, str]

    def __init__(
        self,
        host: str = "slurm",
        user: str | None = None,
        port: int | None = None,
        config: Any = None,
        gateway: Any = None,
        forward_agent: bool | None = None,
        connect_timeout: int | None = None,
        connect_kwargs: Mapping[str, Any] | None = None,
        inline_ssh_env: bool = True,
        slurm_data_path: str = "my-scratch/data",
        slurm_images_path: str = "my-scratch/singularity_images/workflows",
        slurm_converters_path: str = "my-scratch/singularity_images/converters",
        slurm_model_paths: Mapping[str, str] | None = None,
        slurm_model_repos: Mapping[str, str] | None = None,
        slurm_model_images: Mapping[str, str] | None = None,
        converter_images: Mapping[str, str] | None = None,
        slurm_model_jobs: Mapping[str, str] | None = None,
        slurm_model_jobs_params: Mapping[str, Sequence[str]] | None = None,
        slurm_model_use_gpu: Mapping[str, bool] | None = None,
        slurm_script_path: str = "slurm-scripts",
        slurm_script_repo: str | None = None,
        init_slurm: bool = False,
        track_workflows: bool = True,
        enable_job_accounting: bool = True,
        enable_job_progress: bool = True,
        enable_workflow_analytics: bool = True,
        sqlalchemy_url: str | None = None,
        config_only: bool = False,
        slurm_data_bind_path: str | None = None,
        slurm_conversion_partition: str | None = None,
        slurm_default_partition: str | None = None,
        sacct_start_time: str | None = None,
        sacct_days_ago: int | None = None,
        env_file_submission: bool = False,
        inject_gpu_flag: bool = False,
        gpu_partition: str | None = None,
        gpu_gres: str | None = None,
        gpu_gpus: str | None = None,
        slurm_global_job_params: Sequence[str] | None = None,
        slurm_image_pull_via_sbatch: bool = False,
        image_pull_cpus: str = "8",
        image_pull_mem: str = "32G",
        apptainer_tmpdir: str | None = None,
        apptainer_cachedir: str | None = None,
        slurm_zip_cmd: str | None = None,
        analytics_rebuild_start_time: str | None = None,
        analytics_rebuild_days_ago: int | None = None,
    ) -> None:
        arguments = dict(locals())
        settings = settings_of(arguments, os.environ)
        options = {name: arguments[name] for name in _FABRIC if arguments[name] is not None}
        self._start(settings, {"host": host, **options}, config_only)
        self._images = dict(slurm_model_images or {})
        if init_slurm and not config_only:
            self.setup_slurm()

    def _start(self, settings: Settings, fabric_options: Mapping[str, Any], config_only: bool = False) -> None:
        self.deployment = Deployment(settings)
        self.config_only = config_only
        self._fabric_options = fabric_options
        self._images = {}
        self._jobs = Jobs(self.deployment, lambda: self.workflowTracker)
        self._data = DataTransfer(self.deployment)
        self._workflows = Workflows(self.deployment)
        self._conversion = Conversion(self.deployment, self._jobs)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Make a client of settings, as `Settings.load` reads them."""
        client = cls.__new__(cls)
        client._start(settings, {})
        return client

    @classmethod
    def from_config(cls, configfile: str | Path = "", init_slurm: bool = False, config_only: bool = False) -> Self:
        """Make the client that the ini files and the environment describe.

        Parameters
        ----------
        configfile
            A file that is read after the standard ones; if empty, the one that ``BIOMERO_CONFIG`` names. It is not read
            if ``BIOMERO_SLURM_CONFIG_FILE`` is set: that file replaces all others.
        init_slurm
            Also pull the images that the cluster lacks, as ``biomeroworker init`` does.
        config_only
            Accepted for code written for biomero, without effect: nothing here connects before its first use.
        """
        client = cls.from_settings(cls._load_settings(str(configfile or "")))
        client.config_only = config_only
        if init_slurm and not config_only:
            client.setup_slurm()
        return client

    def __repr__(self) -> str:
        state = "connected" if "_connection" in self.__dict__ and self._connection.is_connected else "not connected"
        return f"<{type(self).__name__} {self.settings.default_cluster.ssh.host!r}, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        """A removed name raises an error that names the replacement."""
        raise removed.missing("SlurmClient", name, removed.CLIENT)

    def close(self) -> None:
        """End all connections. Using the client again opens new ones."""
        made = self.__dict__.pop("_connection", None)
        if made is not None:
            made.close()
        self.deployment.close()

    # -- the deployment -----------------------------------------------------------------------------------------------

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run; see `Deployment.submit`."""
        return self.deployment.submit(request)

    def wait(
        self,
        run_id: UUID,
        on_progress: Callable[[WorkflowRun], None] | None = None,
        timeout: float | None = None,
    ) -> WorkflowRun:
        """Wait until a run has ended or is paused; see `Deployment.wait`."""
        return self.deployment.wait(run_id, on_progress, timeout)

    def cancel(self, run_id: UUID, by: str) -> None:
        """Request the end of a run."""
        self.deployment.cancel(run_id, by)

    def retry(self, run_id: UUID, *, failed: bool = False) -> UUID:
        """Accept the same request again, as a new run; with ``failed`` only for the images that failed."""
        return self.deployment.retry(run_id, failed=failed)

    # -- overviews ----------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> overview.Table:
        """The latest runs, newest first, as a table and as a sequence of `RunSummary`."""
        return overview.runs(self.log)

    @property
    def jobs(self) -> overview.Table:
        """The latest jobs of the event log, newest first, as a table and as a sequence."""
        return overview.jobs(self.log)

    @property
    def workflows(self) -> overview.Table:
        """The configured workflows, as a table and as a sequence. Needs no network."""
        return overview.workflows(self.settings)

    def doctor(self, *, probe_nodes: bool = False) -> overview.Table:
        """Check the deployment, as ``biomeroworker doctor`` does; see `Deployment.doctor`."""
        found = list(self.deployment.doctor(probe_nodes=probe_nodes))
        return overview.findings([*found, *overview.detached(self.log)])

    # -- workflows ----------------------------------------------------------------------------------------------------

    @property
    def slurm_model_images(self) -> dict[str, str]:
        """Each workflow's container image; disabled workflows are left out."""
        found = {name: workflow.container_image for name, workflow in self.deployment.catalogue.usable()}
        return {**found, **self._images}

    @slurm_model_images.setter
    def slurm_model_images(self, images: Mapping[str, str] | None) -> None:
        self._images = dict(images or {})

    def get_workflow_images(self) -> dict[str, str]:
        """The same, as a method."""
        return self.slurm_model_images

    def get_image_versions_and_data_files(self, model: str) -> tuple[list[str], list[str]]:
        """The versions of a workflow on the cluster, newest first, and the names of the zip files with data there."""
        return self._workflows.get_image_versions_and_data_files(model)

    def get_all_image_versions_and_data_files(self) -> tuple[dict[str, list[str]], list[str]]:
        """The same for all workflows: one remote command for each cluster, one for the data."""
        return self._workflows.get_all_image_versions_and_data_files()

    def list_available_converter_versions(self) -> dict[str, list[str]]:
        """The versions of each converter on the cluster, newest first."""
        return self._workflows.list_available_converter_versions()

    def parse_docker_image_version(self, image: str) -> tuple[str | None, str]:
        """The tag of an image's reference (or None), and the reference without it."""
        return self._workflows.parse_docker_image_version(image)

    def init_workflows(self, force_update: bool = False) -> None:
        """Read all descriptors; ``force_update`` fetches remote ones even if the cached copies are fresh."""
        self._workflows.init_workflows(force_update)

    def refresh(self) -> None:
        """Refresh what dialogs show: descriptors that are old, and the versions on the clusters."""
        self._workflows.refresh()

    def generic_descriptor_from_github(self, workflow: str) -> dict[str, Any]:
        """A workflow's descriptor in the form of biomero-schema, by name or by location."""
        return self._workflows.generic_descriptor_from_github(workflow)

    def get_workflow_parameters(self, workflow: str) -> dict[str, dict[str, Any]]:
        """The parameters that a user sets, by id: name, default, type, flag, description, choices, bounds."""
        return self._workflows.get_workflow_parameters(workflow)

    def get_file_attachment_params(self, workflow: str) -> dict[str, dict[str, Any]]:
        """The parameters that are files."""
        return self._workflows.get_file_attachment_params(workflow)

    def convert_param_type_to_omtype(self, param_type: str, _default: Any, *args: Any, **kwargs: Any) -> Any:
        """A field of a script's dialog (``omero.scripts``) for a parameter's type."""
        return self._workflows.convert_param_type_to_omtype(param_type, _default, *args, **kwargs)

    def str_to_class(self, module_name: str, class_name: str, *args: Any, **kwargs: Any) -> Any:
        """See `biomero.schema_parsers.create_class_instance`."""
        return create_class_instance(module_name, class_name, *args, **kwargs)

    def convert_url(self, input_url: str, ext: str = ".json") -> str:
        """The first address at which the descriptor of a repository is looked for."""
        return self._workflows.convert_url(input_url, ext)

    def extract_parts_from_url(self, input_url: str) -> tuple[list[str], str]:
        """The parts of an address between slashes, and the reference after ``/tree/`` (default ``master``)."""
        return self._workflows.extract_parts_from_url(input_url)

    # -- set-up -------------------------------------------------------------------------------------------------------

    def setup_slurm(self, report: Callable[[str], None] = lambda word: None) -> None:
        """Make the folders on the clusters and pull the images that are missing; raises if any is still missing.

        A workflow that a wrong descriptor disables is no reason to raise; `report` and the log show it.
        """
        self.deployment.provision(report).raise_for_failures()

    def setup_directories(self) -> None:
        """Make the folders on the clusters."""
        for name in self.settings.clusters_in_use:
            make_folders(self.deployment.clusters[name])

    def setup_job_scripts(self) -> None:
        """Write ``jobs/<workflow>.sh`` below `slurm_script_path` for each workflow that has no job script there."""
        for name in self.settings.clusters_in_use:
            leave_job_scripts(self.settings, name, self.deployment.clusters[name])

    def update_slurm_scripts(self, generate_jobs: bool = False, env: Mapping[str, str] | None = None) -> Result:
        """The same as `setup_job_scripts`: there is one job script for all workflows, and nothing to update."""
        self.setup_job_scripts()
        return Result(exited=0)

    def setup_container_images(self) -> None:
        """Pull the images that the clusters lack, including those of converters."""
        self.setup_slurm()

    setup_converters = setup_container_images

    def validate(self, validate_slurm_setup: bool = False) -> bool:
        """Whether the clusters are reachable; raises the fault if one is not.

        With ``validate_slurm_setup`` the clusters are also set up; returns False if that fails.
        """
        for name in self.settings.clusters_in_use:
            self.deployment.clusters[name].check()
        if validate_slurm_setup:
            try:
                self.setup_slurm()
            except Fault as error:
                logger.warning("the set-up of the clusters failed: %s", error)
                return False
        return True
