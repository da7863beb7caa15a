"""The part of `SlurmClient` that transfers data and submits jobs, step by step."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fabric.transfer
from invoke import Result

from biomero.compat.conversion import Conversion
from biomero.compat.data import DataTransfer
from biomero.compat.jobs import Jobs
from biomero.compat.slurm_job import SlurmJob


class ClientJobs:
    """Data and jobs; each method delegates to one of the objects below."""

    _jobs: Jobs
    _data: DataTransfer
    _conversion: Conversion

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
        """Download ``<filename>.zip``: a path, or the name that `zip_data_on_slurm_server` was given."""
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

    def get_workflow_command(
        self,
        workflow: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        **kwargs: Any,
    ) -> tuple[str, dict[str, str]]:
        """The line of shell that submits the job of `run_workflow`, and an empty environment. Records nothing."""
        return self._jobs.get_workflow_command(workflow, workflow_version, input_data, email, time, **kwargs)

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

    def get_conversion_command(
        self, data_path: str, config_file: str, source_format: str = "zarr", target_format: str = "tiff"
    ) -> tuple[str, dict[str, str], str, str]:
        """The line of shell that submits the job of `run_conversion_workflow_job`; see `Conversion`."""
        return self._conversion.get_conversion_command(data_path, config_file, source_format, target_format)

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
