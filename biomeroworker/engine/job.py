"""What is submitted for one attempt: the options of ``sbatch``, and the argv in front of the container's own arguments.

Pure. The order of precedence, weakest first (each may add and change, none can delete):

1. ``sbatch_<flag>`` of ``[SLURM]``, for every job
2. ``slurm_default_partition``
3. the GPU settings (``gpu_partition``, ``gpu_gres`` or ``gpu_gpus``), where the workflow uses a GPU
4. ``<workflow>_job_<flag>`` of ``[WORKFLOWS]``
5. what this run alone asks for (``job_options`` of the request), and its mail address
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from biomeroworker.config import Settings
from biomeroworker.source import RunRequest

#: Asked of sbatch where nobody says otherwise.
DEFAULTS: Mapping[str, str] = {"time": "00:45:00", "cpus-per-task": "4", "mem": "5G"}
#: Ours alone: they carry the run's identity, and the job must not depend on the submitter's environment.
RESERVED = frozenset({"job-name", "output", "error", "chdir", "array", "export", "parsable", "wrap"})


def options(settings: Settings, request: RunRequest, excluded_nodes: Iterable[str] = ()) -> dict[str, str]:
    """Long options of ``sbatch`` without dashes; an empty value is an option without one."""
    slurm, workflow = settings.slurm, settings.workflows[request.workflow]
    found = dict(DEFAULTS)
    found.update(_names(slurm.sbatch))
    if slurm.slurm_default_partition:
        found["partition"] = slurm.slurm_default_partition
    if workflow.use_gpu:
        gpu = {"partition": slurm.gpu_partition, "gres": slurm.gpu_gres, "gpus": slurm.gpu_gpus}
        found.update({name: value for name, value in gpu.items() if value})
    found.update(_names(workflow.job_params))
    found.update(_names(request.job_options))
    if request.email:
        found.update({"mail-user": request.email, "mail-type": "END,FAIL"})
    nodes = sorted({*excluded_nodes, *filter(None, found.pop("exclude", "").split(","))})
    if nodes:
        found["exclude"] = ",".join(nodes)
    return {name: value for name, value in found.items() if name not in RESERVED}


def _names(given: Mapping[str, str]) -> dict[str, str]:
    """Options as sbatch spells them: ``cpus_per_task`` in an ini means ``--cpus-per-task``."""
    return {name.replace("_", "-"): value for name, value in given.items()}
