"""The options of ``sbatch`` for one attempt.

Pure. The layers, weakest first (see `sbatch_options.merge_layers`; a layer can add and change options, but not delete):

1. `DEFAULTS`
2. ``sbatch_<flag>`` of ``[SLURM]``, for every job
3. ``slurm_default_partition``
4. the GPU settings (``gpu_partition``, ``gpu_gres`` or ``gpu_gpus``), where the job gets a GPU
5. ``<workflow>_job_<flag>`` of ``[WORKFLOWS]``
6. ``job_options`` of the request, and its mail address
7. the account that ``[ACCOUNTS]`` has for the run's user or group
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from biomeroworker.cluster.slurm import sbatch_options
from biomeroworker.config import Settings, SlurmSettings
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import ConfigError, RequestRejected

#: Options where no other layer has any.
DEFAULTS: Mapping[str, str] = {"time": "00:45:00", "cpus-per-task": "4", "mem": "5G"}


def check(settings: Settings, request: RunRequest) -> None:
    """Raise `RequestRejected` for an option that a run may not set, `ConfigError` for one that a site may not set."""
    for name, value in _normalized(request.job_options).items():
        if name not in sbatch_options.ALLOWED_FOR_RUNS:
            raise RequestRejected(
                f"a run may not set sbatch's {name!r}; it may set " + ", ".join(sorted(sbatch_options.ALLOWED_FOR_RUNS))
            )
        if wrong := sbatch_options.problem(name, value):
            raise RequestRejected(f"sbatch's {name!r} {wrong}")
    for where, name, wrong in problems(settings, request.workflow):
        raise ConfigError(f"{where}: the configuration may not set sbatch's {name!r}: it {wrong}")
    account(settings, request)


def problems(settings: Settings, workflow: str) -> Iterator[tuple[str, str, str]]:
    """The options of a workflow's jobs that cannot be passed on: where each is set, its name, what is wrong."""
    cluster = settings.cluster_of(workflow)
    for flag, value in cluster.slurm.sbatch.items():
        if wrong := sbatch_options.problem(sbatch_options.normalize(flag), value):
            yield cluster.line("SLURM", f"sbatch_{flag}"), sbatch_options.normalize(flag), wrong
    for flag, value in settings.workflows[workflow].job_params.items():
        if wrong := sbatch_options.problem(sbatch_options.normalize(flag), value):
            yield settings.line("WORKFLOWS", f"{workflow}_job_{flag}"), sbatch_options.normalize(flag), wrong


def account(settings: Settings, request: RunRequest) -> str:
    """The account that ``[ACCOUNTS]`` has for a run; empty where that section is not used.

    Raises
    ------
    RequestRejected
        The site requires an account and has none for this user and group; or the run names one itself. A run on a
        folder may name one: it is started on the worker's command line, by a person who could edit the ini as well.
    """
    cluster = settings.cluster_of(request.workflow)
    accounts = cluster.accounts
    if not accounts.in_use:
        return ""
    named = _normalized(request.job_options).get("account", "")
    if request.source == "folder" and named:
        return named
    if named:
        raise RequestRejected(
            f"a run may not choose its account here: {cluster.section('ACCOUNTS')} of the configuration does"
        )
    found = accounts.of(request.user_name, request.group_name)
    if not found and accounts.required:
        line = cluster.line("ACCOUNTS", f"group.{request.group_name or '<name>'}")
        who = f"group {request.group_name!r}" if request.group_name else "runs without a group"
        raise RequestRejected(
            f"there is no SLURM account for {who} (user {request.user_name!r}), and this site requires one: "
            f"{line} = <account>"
        )
    return found


def uses_gpu(settings: Settings, request: RunRequest) -> bool:
    """Whether the job gets a GPU: by the workflow's setting, or by the request where the site allows that."""
    if settings.cluster_of(request.workflow).slurm.inject_gpu_flag and request.use_gpu is not None:
        return request.use_gpu
    return settings.workflows[request.workflow].use_gpu


def options(settings: Settings, request: RunRequest) -> dict[str, str]:
    """Long options of ``sbatch`` without dashes; an empty value is an option without one."""
    slurm = settings.cluster_of(request.workflow).slurm
    gpu = {"partition": slurm.gpu_partition, "gres": slurm.gpu_gres, "gpus": slurm.gpu_gpus}
    return sbatch_options.merge_layers(
        DEFAULTS,
        slurm.sbatch,
        {"partition": slurm.slurm_default_partition},
        gpu if uses_gpu(settings, request) else {},
        settings.workflows[request.workflow].job_params,
        request.job_options,
        {"mail-user": request.email, "mail-type": "END,FAIL"} if request.email else {},
        {"account": account(settings, request) or None},
    )


def auxiliary_options(
    slurm: SlurmSettings, *, weaker: Mapping[str, str] | None = None, stronger: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Options for a job that executes no workflow, such as the pull of an image.

    They are ``weaker``, then ``sbatch_<flag>`` and ``slurm_default_partition``, then ``stronger``. Options that cannot
    be passed on are left out: doctor reports them.
    """
    partition = {"partition": slurm.slurm_default_partition}
    found = sbatch_options.merge_layers(weaker or {}, slurm.sbatch, partition, stronger or {})
    return {name: value for name, value in found.items() if not sbatch_options.problem(name, value)}


def excluding(found: Mapping[str, str], nodes: Iterable[str]) -> dict[str, str]:
    """The same options, with more nodes excluded."""
    excluded = sorted({*nodes, *filter(None, found.get("exclude", "").split(","))})
    return {**found, "exclude": ",".join(excluded)} if excluded else dict(found)


def _normalized(options: Mapping[str, str]) -> dict[str, str]:
    return {sbatch_options.normalize(name): value for name, value in options.items()}
