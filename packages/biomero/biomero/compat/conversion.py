"""Conversion as a job of its own, for scripts that transfer, convert and run in separate steps.

A run that `SlurmClient.submit` accepts needs none of this: its own job converts the images.
"""

from __future__ import annotations

import posixpath
import shlex
import uuid
from importlib.resources import files
from pathlib import Path

import fabric.transfer
from invoke import Result

from biomero.compat.jobs import Jobs, submit_command
from biomero.compat.remote_data import data_folder
from biomero.compat.slurm_job import SlurmJob
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.engine.planning import job_options
from biomeroworker.errors import BiomeroWorkerError, RequestRejected
from biomeroworker.workflows.attempt_folder import CONVERTER

#: $1 the file with the argv. The OME-Zarr moves away only after all TIFFs exist, so that a workflow never sees both.
_JOB = r"""#!/bin/bash
words=(); while IFS= read -r -d '' word; do words+=("$word"); done <"$1"
made=$(dirname -- "$1")/tiff
"${words[@]}" "$made" --jobs "${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}" || exit
mkdir -p data/zarr && mv -f -- data/in/*.zarr data/zarr/ && mv -f -- "$made"/* data/in/ && rmdir -- "$made"
"""


class Conversion:
    """Conversion jobs of one deployment."""

    def __init__(self, deployment: Deployment, jobs: Jobs) -> None:
        self._deployment, self._jobs = deployment, jobs

    def run_conversion_workflow_job(
        self, folder_name: str, source_format: str = "zarr", target_format: str = "tiff", wf_id: uuid.UUID | None = None
    ) -> SlurmJob:
        """Turn the OME-Zarr in ``<data folder>/<folder_name>/data/in`` into OME-TIFF, in one job on all its cores.

        At its end the TIFFs are in ``data/in`` and the OME-Zarr in ``data/zarr``. If sbatch rejects the job, the
        returned job is not ``ok``, and ``get_error()`` gives the reason.
        """
        _check_formats(source_format, target_format)
        cluster = self._deployment.cluster
        folder = data_folder(cluster, folder_name)
        image = cluster.converter()
        name = f"convert_{source_format}_to_{target_format}"
        tracker = self._jobs.tracker()
        if wf_id is None:
            wf_id = tracker.initiate_workflow(name, f"{name} {image.version}", -1, -1)
        task = tracker.add_task_to_workflow(wf_id, name, image.version, folder_name, {})
        try:
            words = _prepare(cluster, folder, str(task or uuid.uuid4()), image.path)
            answer, job_id = self._jobs.submit_script(cluster, folder, task, _JOB, words, self._options())
        except BiomeroWorkerError as error:
            tracker.fail_task(task, str(error))
            return SlurmJob(Result(stderr=str(error), exited=1), -1, wf_id, task)
        return SlurmJob(answer, job_id, wf_id, task, log_file=f"omero-{job_id}.log")

    def get_conversion_command(
        self, data_path: str, config_file: str, source_format: str = "zarr", target_format: str = "tiff"
    ) -> tuple[str, dict[str, str], str, str]:
        """The line of shell that submits the same job, an empty environment, the converter's name and its version.

        Writes the converter's program below ``data_path``, and records nothing. ``config_file`` is ignored.
        """
        _check_formats(source_format, target_format)
        cluster = self._deployment.cluster
        folder, name = data_folder(cluster, data_path), str(uuid.uuid4())
        image = cluster.converter()
        words = _prepare(cluster, folder, name, image.path)
        submit = submit_command(folder, name, _JOB, self._options())
        line = f"printf '%s\\0' {shlex.join(words)} | {shlex.join(submit)}"
        return line, {}, f"convert_{source_format}_to_{target_format}", image.version

    def get_conversion_logfile_from_slurm(
        self, slurm_job_id: int | str, local_tmp_storage: str = "/tmp/", logfile: str | None = None  # noqa: S108
    ) -> tuple[str, str, fabric.transfer.Result]:  # fmt: skip
        """Copy a conversion's log here: there is one for all of its images."""
        name = f"omero-{int(slurm_job_id)}.log"
        return self._jobs.get_logfile_from_slurm(slurm_job_id, local_tmp_storage, Path(logfile or name).name)

    def _options(self) -> dict[str, str]:
        slurm = self._deployment.settings.default_cluster.slurm
        own = {"partition": slurm.slurm_conversion_partition}
        options = job_options.auxiliary_options(slurm, weaker=job_options.DEFAULTS, stronger=own)
        return {"job-name": "omero-job-conversion", **options}


def _check_formats(source_format: str, target_format: str) -> None:
    if (source_format, target_format) != ("zarr", "tiff"):
        raise RequestRejected(
            f"no converter from {source_format} to {target_format}; the only one is from zarr to tiff"
        )


def _prepare(cluster: Cluster, folder: str, name: str, image: str) -> list[str]:
    """Write the converter's program into the folder of a job; the argv of its container, without the target."""
    if not cluster.transport.exists(f"{folder}/data/in"):
        raise RequestRejected(f"there is no data/in in {folder}")
    own = posixpath.join(folder, f".biomero-{name}")
    cluster.transport.make_dirs([own])
    cluster.transport.write_file(f"{own}/{CONVERTER}", (files("biomeroworker.remote") / CONVERTER).read_bytes())
    prefix = cluster.runtime.exec_prefix(image, binds=cluster.binds(folder))
    return [*prefix, "python3", f"{own}/{CONVERTER}", f"{folder}/data/in"]
