"""Conversion as a job of its own, for scripts that go the steps of old: data there, converted, then the workflow.

A run that `SlurmClient.submit` accepts needs none of this: it is converted within its own job.
"""

from __future__ import annotations

import posixpath
import uuid
from importlib.resources import files
from pathlib import Path

import fabric.transfer
from invoke import Result

from biomeroworker import remote
from biomeroworker.cluster.slurm import sbatch_options
from biomeroworker.engine import job
from biomeroworker.errors import BiomeroWorkerError, Refused
from biomeroworker.scripting.jobs import JobMethods, handed_in
from biomeroworker.scripting.parts import data_folder
from biomeroworker.scripting.slurmjob import SlurmJob
from biomeroworker.workflows.attempt_folder import CONVERTER

#: $1 the words. What was converted gives way to the result once all of it is there, so that a workflow sees only that.
_JOB = r"""#!/bin/bash
words=(); while IFS= read -r -d '' word; do words+=("$word"); done <"$1"
made=$(dirname -- "$1")/tiff
"${words[@]}" "$made" --jobs "${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}" || exit
mkdir -p data/zarr && mv -f -- data/in/*.zarr data/zarr/ && mv -f -- "$made"/* data/in/ && rmdir -- "$made"
"""


class ConversionMethods(JobMethods):
    """Part of `SlurmClient`."""

    def run_conversion_workflow_job(
        self, folder_name: str, source_format: str = "zarr", target_format: str = "tiff", wf_id: uuid.UUID | None = None
    ) -> SlurmJob:
        """Turn the OME-Zarr in ``<data folder>/<folder_name>/data/in`` into OME-TIFF, in one job on all its cores.

        At its end the TIFFs are in ``data/in`` and the OME-Zarr in ``data/zarr``. A job that sbatch does not take is
        returned as one that is not ``ok``, with the reason in ``get_error()``.
        """
        if (source_format, target_format) != ("zarr", "tiff"):
            raise Refused(f"there is a converter from zarr to tiff, and none from {source_format} to {target_format}")
        cluster = self.cluster
        folder = data_folder(cluster, folder_name)
        image = cluster.converter()
        name = f"convert_{source_format}_to_{target_format}"
        tracker = self.log.tracker
        if wf_id is None:
            wf_id = tracker.initiate_workflow(name, f"{name} {image.version}", -1, -1)
        task = tracker.add_task_to_workflow(wf_id, name, image.version, folder_name, {})
        own = posixpath.join(folder, f".biomero-{task}")
        words = [
            *cluster.runtime.exec_prefix(image.path, binds=cluster.binds(folder)),
            *("python3", f"{own}/{CONVERTER}", f"{folder}/data/in"),
        ]
        try:
            if not cluster.transport.exists(f"{folder}/data/in"):
                raise Refused(f"there is no data/in in {folder}")
            cluster.transport.make_dirs([own])
            cluster.transport.write_file(f"{own}/{CONVERTER}", (files(remote) / CONVERTER).read_bytes())
            answer, job_id = handed_in(self, cluster, folder, task, _JOB, words, self._options())
        except BiomeroWorkerError as error:
            tracker.fail_task(task, str(error))
            return SlurmJob(Result(stderr=str(error), exited=1), -1, wf_id, task)
        return SlurmJob(answer, job_id, wf_id, task, log_file=f"omero-{job_id}.log")

    def get_conversion_logfile_from_slurm(
        self, slurm_job_id: int | str, local_tmp_storage: str = "/tmp/", logfile: str | None = None  # noqa: S108
    ) -> tuple[str, str, fabric.transfer.Result]:  # fmt: skip
        """Copy a conversion's log here: there is one for all of its images."""
        name = f"omero-{int(slurm_job_id)}.log"
        return self.get_logfile_from_slurm(slurm_job_id, local_tmp_storage, Path(logfile or name).name)

    def _options(self) -> dict[str, str]:
        slurm = self.settings.main.slurm
        found = dict(job.DEFAULTS)
        sbatch_options.lay(found, {sbatch_options.spelled(name): value for name, value in slurm.sbatch.items()})
        partition = slurm.slurm_conversion_partition or slurm.slurm_default_partition
        sbatch_options.lay(found, {"partition": partition} if partition else {})
        good = {name: value for name, value in found.items() if not sbatch_options.problem(name, value)}
        return {"job-name": "omero-job-conversion", **good}
