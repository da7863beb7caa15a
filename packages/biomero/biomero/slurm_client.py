"""`SlurmClient` and `SlurmJob`, under the module name that scripts import.

A `SlurmClient` has a `Deployment` of biomeroworker, which does the work, and a fabric connection, which is made at its
first use. Each method delegates to one of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import fabric.transfer
from invoke import Result

from biomero.compat import removed
from biomero.compat.connection import HostCheckedConnection, connection
from biomero.compat.conversion import Conversion
from biomero.compat.data import DataTransfer
from biomero.compat.jobs import Jobs
from biomero.compat.slurm_job import SlurmJob
from biomero.compat.workflows import Workflows
from biomero.constants import slurm_env
from biomeroworker.config import Settings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.job_scripts import job_script_name, leave_job_scripts
from biomeroworker.deployment.provision import make_folders
from biomeroworker.domain.request import RunRequest
from biomeroworker.eventlog.legacy_views import JobAccounting, JobProgress, WorkflowAnalytics, WorkflowProgress
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.eventlog.tracker import WorkflowTracker

__all__ = ["SlurmClient", "SlurmJob", "slurm_env"]


class SlurmClient:
    """One deployment, under the names of biomero.

    Making one needs no network. ``client.run("squeue")`` and the other methods of fabric's ``Connection`` connect to
    the cluster at their first use.

    Parameters
    ----------
    settings
        As read by `Settings.load`.
    """

    def __init__(self, settings: Settings) -> None:
        self.deployment = Deployment(settings)
        self._jobs = Jobs(self.deployment)
        self._data = DataTransfer(self.deployment)
        self._workflows = Workflows(self.deployment)
        self._conversion = Conversion(self.deployment, self._jobs)

    @classmethod
    def from_config(cls, configfile: str | Path = "", init_slurm: bool = False, config_only: bool = False) -> Self:
        """Make the client that the ini files and the environment describe.

        Parameters
        ----------
        configfile
            A file that is read after the standard ones; if empty, the one that ``BIOMERO_CONFIG`` names.
        init_slurm
            Also pull the images that the cluster lacks, as ``biomeroworker init`` does.
        config_only
            Accepted for code written for biomero, without effect: nothing here connects before its first use.
        """
        client = cls(Settings.load(Path(configfile) if configfile else None))
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
        """Settings by the names of biomero. A removed name raises an error that names the replacement."""
        if name in removed.CLIENT or "deployment" not in self.__dict__:
            raise removed.missing("SlurmClient", name, removed.CLIENT)
        for section in (self.settings.default_cluster.slurm, self.settings.analytics):
            if name in type(section).model_fields:
                return getattr(section, name)
        raise removed.missing("SlurmClient", name, removed.CLIENT)

    def close(self) -> None:
        """End all connections. Using the client again opens new ones."""
        made = self.__dict__.pop("_connection", None)
        if made is not None:
            made.close()
        self.deployment.close()

    # -- the deployment -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.deployment.settings

    @property
    def sqlalchemy_url(self) -> str:
        """The URL of the event log's database, with its password."""
        return self.settings.database_url

    @property
    def log(self) -> RunLog:
        """The event log."""
        return self.deployment.log

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

    # -- the fabric connection ----------------------------------------------------------------------------------------

    @cached_property
    def _connection(self) -> HostCheckedConnection:
        return connection(self.settings, lambda: self.deployment.cluster.check())

    @property
    def host(self) -> str:
        """The host name of the front-end, as the SSH configuration resolves it."""
        return str(self._connection.host)

    @property
    def user(self) -> str:
        """The account on the front-end."""
        return str(self._connection.user)

    @property
    def port(self) -> int:
        """The front-end's SSH port."""
        return int(self._connection.port)

    @property
    def ssh_config(self) -> Mapping[str, Any]:
        """What the SSH configuration holds for the front-end."""
        return dict(self._connection.ssh_config)

    @property
    def connect_kwargs(self) -> Mapping[str, Any]:
        """Arguments for paramiko's ``SSHClient.connect``."""
        return dict(self._connection.connect_kwargs)

    @property
    def client(self) -> Any:
        """The paramiko ``SSHClient``."""
        return self._connection.client

    @property
    def transport(self) -> Any:
        """The paramiko ``Transport``; None while not connected."""
        return self._connection.transport

    @property
    def is_connected(self) -> bool:
        """Whether the fabric connection is open."""
        return "_connection" in self.__dict__ and bool(self._connection.is_connected)

    def open(self) -> Any:
        """Open the fabric connection."""
        return self._connection.open()

    def run(self, command: str, **kwargs: Any) -> Result:
        """Run a line of shell on the front-end; see fabric's ``Connection.run``."""
        return self._connection.run(command, **kwargs)

    def sudo(self, command: str, **kwargs: Any) -> Result:
        """Run a line of shell on the front-end with sudo."""
        return self._connection.sudo(command, **kwargs)

    def local(self, *args: Any, **kwargs: Any) -> Result:
        """Run a line of shell on this machine."""
        return self._connection.local(*args, **kwargs)

    def shell(self, **kwargs: Any) -> Any:
        """Start an interactive shell on the front-end."""
        return self._connection.shell(**kwargs)

    def put(self, *args: Any, **kwargs: Any) -> fabric.transfer.Result:
        """Upload a file."""
        return self._connection.put(*args, **kwargs)

    def get(self, *args: Any, **kwargs: Any) -> fabric.transfer.Result:
        """Download a file."""
        return self._connection.get(*args, **kwargs)

    def sftp(self) -> Any:
        """The SFTP client of the connection."""
        return self._connection.sftp()

    def cd(self, path: str) -> Any:
        """Run the commands of a ``with`` block in a folder."""
        return self._connection.cd(path)

    def prefix(self, command: str) -> Any:
        """Run a line of shell before each command of a ``with`` block."""
        return self._connection.prefix(command)

    def forward_local(self, *args: Any, **kwargs: Any) -> Any:
        """Open a tunnel from a local port to the front-end for a ``with`` block."""
        return self._connection.forward_local(*args, **kwargs)

    def forward_remote(self, *args: Any, **kwargs: Any) -> Any:
        """Open a tunnel from a port of the front-end to this machine for a ``with`` block."""
        return self._connection.forward_remote(*args, **kwargs)

    def create_session(self) -> Any:
        """Open a session on the connection."""
        return self._connection.create_session()

    def run_commands(
        self,
        cmdlist: Sequence[str],
        env: Mapping[str, str] | None = None,
        sep: str = " && ",
        log_stdout: bool = True,
        **kwargs: Any,
    ) -> Result:
        """Run lines of shell, joined. The caller is responsible for their quoting. Nothing of it is logged."""
        kwargs.setdefault("in_stream", False)
        kwargs.setdefault("hide", True)
        return self.run(sep.join(cmdlist), env=dict(env or {}), **kwargs)

    def run_commands_split_out(self, cmdlist: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """Run lines of shell one by one; returns the output of each."""
        return [self.run_commands([line], env).stdout for line in cmdlist]

    # -- the event log ------------------------------------------------------------------------------------------------

    @property
    def workflowTracker(self) -> WorkflowTracker:  # noqa: N802
        """Records runs and tasks of programs that do each step themselves."""
        return self.log.tracker

    @property
    def jobAccounting(self) -> JobAccounting:  # noqa: N802
        """The user, group and task of each job."""
        return self.log.job_accounting

    @property
    def jobProgress(self) -> JobProgress:  # noqa: N802
        """State and progress of jobs."""
        return self.log.job_progress

    @property
    def wfProgress(self) -> WorkflowProgress:  # noqa: N802
        """State and progress of runs."""
        return self.log.workflow_progress

    @property
    def workflowAnalytics(self) -> WorkflowAnalytics:  # noqa: N802
        """Counts, durations and failures of tasks."""
        return self.log.workflow_analytics

    @property
    def track_workflows(self) -> bool:
        """Runs are always recorded."""
        return True

    def initialize_analytics_system(self, reset_tables: bool = False) -> None:
        """Open the log; ``reset_tables`` rebuilds its view tables from its events."""
        log = self.log
        if reset_tables:
            log.rebuild()

    def bring_listener_uptodate(self, listener: Any, start: int = 1) -> None:
        """Do nothing: the view tables are written in the transaction of each event."""

    def setup_listeners(self, runner: Any = None, reset_tables: bool = False) -> None:
        """Open the log; ``reset_tables`` rebuilds its view tables."""
        self.initialize_analytics_system(reset_tables)

    # -- settings -----------------------------------------------------------------------------------------------------

    @property
    def slurm_data_path(self) -> str:
        """Folder for data on the cluster."""
        return self.deployment.settings.default_cluster.slurm.slurm_data_path

    @property
    def slurm_images_path(self) -> str:
        """Folder for workflow images on the cluster."""
        return self.deployment.settings.default_cluster.slurm.slurm_images_path

    @property
    def slurm_converters_path(self) -> str:
        """Folder for converter images on the cluster."""
        return self.deployment.settings.default_cluster.slurm.slurm_converters_path

    @property
    def slurm_model_paths(self) -> dict[str, str]:
        """Folder of each workflow's images, below `slurm_images_path`."""
        return {name: one.path for name, one in self.deployment.settings.workflows.items()}

    @property
    def slurm_model_repos(self) -> dict[str, str]:
        """Where each workflow's descriptor is."""
        return {name: one.repo for name, one in self.deployment.settings.workflows.items()}

    @property
    def slurm_model_images(self) -> dict[str, str]:
        """Each workflow's container image; disabled workflows are left out."""
        return {name: workflow.container_image for name, workflow in self.deployment.catalogue.usable()}

    def get_workflow_images(self) -> dict[str, str]:
        """The same, as a method."""
        return self.slurm_model_images

    @property
    def slurm_model_jobs(self) -> dict[str, str]:
        """The job script of each workflow, below `slurm_script_path`."""
        return {name: job_script_name(self.settings, name) for name in self.settings.workflows}

    @property
    def slurm_model_jobs_params(self) -> dict[str, list[str]]:
        """Options of sbatch for each workflow's jobs."""
        return {
            name: [f" --{flag}={value}" for flag, value in one.job_params.items()]
            for name, one in self.deployment.settings.workflows.items()
        }

    @property
    def slurm_model_use_gpu(self) -> dict[str, bool]:
        """Whether each workflow gets a GPU."""
        return {name: one.use_gpu for name, one in self.deployment.settings.workflows.items()}

    @property
    def converter_images(self) -> dict[str, str]:
        """Image of each converter."""
        return dict(self.deployment.settings.converters)

    # -- workflows ----------------------------------------------------------------------------------------------------

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

    def convert_url(self, input_url: str, ext: str = ".json") -> str:
        """The first address at which the descriptor of a repository is looked for."""
        return self._workflows.convert_url(input_url, ext)

    def extract_parts_from_url(self, input_url: str) -> tuple[list[str], str]:
        """The parts of a repository's path, and the reference after ``/tree/`` (default HEAD)."""
        return self._workflows.extract_parts_from_url(input_url)

    # -- data ---------------------------------------------------------------------------------------------------------

    def transfer_data(self, local_path: str | Path) -> fabric.transfer.Result:
        """Upload a file or a folder into the data folder, under its own name."""
        return self._data.transfer_data(local_path)

    def get_unzip_command(self, zipfile: str, filter_filetypes: str | None = "*.zarr *.ome.zarr *.tiff *.tif") -> str:
        """The line of shell that unpacks ``<zipfile>.zip`` into ``<zipfile>/data/in``."""
        return self._data.get_unzip_command(zipfile, filter_filetypes)

    def unpack_data(self, zipfile: str, env: dict[str, str] | None = None) -> Result:
        """Unpack ``<zipfile>.zip`` on the cluster."""
        return self._data.unpack_data(zipfile, env)

    def get_zip_command(self, data_location: str, filename: str) -> str:
        """The line of shell that packs ``<data_location>/data/out`` into ``<data_location>/<filename>.zip``."""
        return self._data.get_zip_command(data_location, filename)

    def zip_data_on_slurm_server(self, data_location: str, filename: str, env: dict[str, str] | None = None) -> Result:
        """Pack the results of ``data_location`` on the cluster."""
        return self._data.zip_data_on_slurm_server(data_location, filename, env)

    def copy_zip_locally(self, local_tmp_storage: str, filename: str) -> fabric.transfer.Result:
        """Download ``<filename>.zip`` from the data folder."""
        return self._data.copy_zip_locally(local_tmp_storage, filename)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def run_workflow(
        self,
        workflow_name: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        wf_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> tuple[Result, int, uuid.UUID, uuid.UUID]:
        """Submit one job of a workflow on ``<data folder>/<input_data>/data/in``; see `Jobs.run_workflow`."""
        return self._jobs.run_workflow(workflow_name, workflow_version, input_data, email, time, wf_id, **kwargs)

    def run_workflow_job(
        self,
        workflow_name: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        wf_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> SlurmJob:
        """Submit the same job and return it as a `SlurmJob`."""
        return SlurmJob(*self.run_workflow(workflow_name, workflow_version, input_data, email, time, wf_id, **kwargs))

    def run_conversion_workflow_job(
        self, folder_name: str, source_format: str = "zarr", target_format: str = "tiff", wf_id: uuid.UUID | None = None
    ) -> SlurmJob:
        """Convert the OME-Zarr in ``<data folder>/<folder_name>/data/in`` to OME-TIFF, in one job."""
        return self._conversion.run_conversion_workflow_job(folder_name, source_format, target_format, wf_id)

    def get_conversion_logfile_from_slurm(
        self, slurm_job_id: int | str, local_tmp_storage: str = "/tmp/", logfile: str | None = None  # noqa: S108
    ) -> tuple[str, str, fabric.transfer.Result]:  # fmt: skip
        """Download a conversion's log."""
        return self._conversion.get_conversion_logfile_from_slurm(slurm_job_id, local_tmp_storage, logfile)

    def extract_job_id(self, result: Result) -> int:
        """The job's id in sbatch's answer; -1 if there is none."""
        return self._jobs.extract_job_id(result)

    def check_job_status(
        self, slurm_job_ids: Sequence[int], env: dict[str, str] | None = None
    ) -> tuple[dict[int, str], Result]:
        """SLURM's state of each job, and the whole answer."""
        return self._jobs.check_job_status(slurm_job_ids, env)

    def list_active_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's pending and running jobs, newest first."""
        return self._jobs.list_active_jobs(env)

    def list_completed_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's completed jobs since ``sacct_start_time``, newest first."""
        return self._jobs.list_completed_jobs(env)

    def list_all_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of all the account's jobs since ``sacct_start_time``, newest first."""
        return self._jobs.list_all_jobs(env)

    def get_active_job_progress(
        self, slurm_job_id: int | str, pattern: str = r"\d+%", env: dict[str, str] | None = None
    ) -> str | None:
        """The last match of ``pattern`` at the end of a job's log; None if there is none, or no log yet."""
        return self._jobs.get_active_job_progress(slurm_job_id, pattern, env)

    def get_logfile_from_slurm(
        self,
        slurm_job_id: int | str,
        local_tmp_storage: str = "/tmp/",  # noqa: S108
        logfile: str | None = None,
    ) -> tuple[str, str, fabric.transfer.Result]:
        """Download a job's log: the folder, the file's path, and the transfer."""
        return self._jobs.get_logfile_from_slurm(slurm_job_id, local_tmp_storage, logfile)

    def extract_data_location_from_log(self, slurm_job_id: int | str | None = None, logfile: str | None = None) -> str:
        """The folder of a job's data, from SLURM itself."""
        return self._jobs.extract_data_location_from_log(slurm_job_id, logfile)

    def cleanup_tmp_files(
        self,
        slurm_job_id: int | str,
        filename: str | None = None,
        data_location: str | None = None,
        logfile: str | None = None,
    ) -> Result:
        """Remove a job's data, log and zip. Nothing outside the data folder, and nothing of an accepted run."""
        return self._jobs.cleanup_tmp_files(slurm_job_id, filename, data_location, logfile)

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
        """Raise the fault that prevents a connection to a cluster; with ``validate_slurm_setup`` set it up as well."""
        for name in self.settings.clusters_in_use:
            self.deployment.clusters[name].check()
        if validate_slurm_setup:
            self.setup_slurm()
        return True
