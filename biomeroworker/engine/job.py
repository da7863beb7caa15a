"""What is submitted for one attempt: the options of ``sbatch``, and the argv in front of the container's own arguments.

Pure. The order of precedence, weakest first (each may add and change, none can delete):

1. ``sbatch_<flag>`` of ``[SLURM]``, for every job
2. ``slurm_default_partition``
3. the GPU settings (``gpu_partition``, ``gpu_gres`` or ``gpu_gpus``), where the workflow uses a GPU
4. ``<workflow>_job_<flag>`` of ``[WORKFLOWS]``
5. what this run alone asks for (``job_options`` of the request), and its mail address
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from biomeroworker.config import Settings
from biomeroworker.errors import ConfigError, Refused
from biomeroworker.source import RunRequest

#: Asked of sbatch where nobody says otherwise.
DEFAULTS: Mapping[str, str] = {"time": "00:45:00", "cpus-per-task": "4", "mem": "5G"}
#: What a run may ask for itself. A list of what is allowed: sbatch understands any option by its beginning, so no list
#: of what is forbidden is ever complete, and ``--output`` writes files in the name of the service's account.
OWN = frozenset({
    "time", "mem", "mem-per-cpu", "mem-per-gpu", "cpus-per-task", "partition", "account", "qos", "gres", "gpus",
    "constraint", "exclude", "reservation", "nice", "begin", "deadline", "comment", "mail-type",
})  # fmt: skip
#: Not even a site sets these: they carry the run's identity, and the job must not depend on who submits it.
RESERVED = (
    "job-name", "output", "error", "input", "chdir", "array", "export", "export-file", "parsable", "wrap", "test-only",
    "uid", "gid", "open-mode", "wait",
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z-]*")


def check(settings: Settings, request: RunRequest) -> None:
    """Raise `Refused` for an option that a run may not ask for, `ConfigError` for one that a site may not set."""
    for name in _names(request.job_options):
        if name not in OWN:
            raise Refused(f"a run may not ask sbatch for {name!r}; it may for {', '.join(sorted(OWN))}")
    if any(character in value for value in request.job_options.values() for character in "\n\r\0"):
        raise Refused("an sbatch option may not hold a line break")
    for name in [*_names(settings.slurm.sbatch), *_names(settings.workflows[request.workflow].job_params)]:
        if not _NAME.fullmatch(name) or any(reserved.startswith(name) for reserved in RESERVED):
            raise ConfigError(f"the configuration may not set sbatch's {name!r}: it is biomeroworker's own")


def options(settings: Settings, request: RunRequest) -> dict[str, str]:
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
    return found


def excluding(found: Mapping[str, str], nodes: Iterable[str]) -> dict[str, str]:
    """The same options, with more nodes excluded."""
    excluded = sorted({*nodes, *filter(None, found.get("exclude", "").split(","))})
    return {**found, "exclude": ",".join(excluded)} if excluded else dict(found)


def _names(given: Mapping[str, str]) -> dict[str, str]:
    """Options as sbatch spells them: ``cpus_per_task`` in an ini means ``--cpus-per-task``."""
    return {name.replace("_", "-"): value for name, value in given.items()}
