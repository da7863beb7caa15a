"""Classify the errors of `sbatch`.

The messages are those of slurm_errno.c and of sbatch(1); they are on stderr, the most specific one first. An unknown
message is permanent: sbatch has checked the job and refused it, and will refuse it again.
"""

from __future__ import annotations

import re

from biomeroworker.cluster.transport.errors import tail
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import Blocked, Fault, Permanent, Transient


class SubmissionUncertain(Transient):
    """SLURM may have accepted the job without a confirmation: look for it before you submit it again."""


_PARTITION = (
    "[SLURM] slurm_default_partition or sbatch_partition, or [WORKFLOWS] <workflow>_job_partition; sinfo -s lists them"
)
_SIZE = "[WORKFLOWS] <workflow>_job_mem, _job_cpus-per-task, _job_gres, _job_nodes, or [SLURM] sbatch_<option>"
_TIME = "[WORKFLOWS] <workflow>_job_time, or [SLURM] sbatch_time"

#: The request was sent and the answer was lost. Also used by grep -Ei on the cluster.
UNCERTAIN = (
    r"Socket timed out|Zero Bytes were transmitted|Message receive failure|Slurmctld returned.*timed? ?out"
    r"|Communication connection failure|Unexpected message received|Connection reset by peer"
)
_UNCERTAIN = re.compile(UNCERTAIN, re.IGNORECASE)
#: Temporary failures, and limits that no longer apply when other jobs have ended.
_TEMPORARY = re.compile(
    r"(?:Assoc|QOS)\w*Submit\w*Limit|\bMax(?:imum)? *job (?:count|limit)"
    r"|temporarily unable to accept job|Resource temporarily unavailable|Unable to contact slurm controller"
    r"|RPC (?:limit|rate)|rate limit|backoff|standby mode|Connection refused|Connection timed out"
    r"|Transport endpoint is not connected|Unable to establish control|slurmctld is (?:not responding|shutting down)"
    r"|Required (?:node|partition) not available|Nodes? .*are? .*reserved|partition.*(?:down|inactive|drain)"
    r"|Munge|authentication (?:credential|error|plugin)|Protocol authentication|database.*(?:down|unavailable)"
    r"|Unable to resolve|DNS SRV|Too many open files|fork(?:: retry)?: ",
    re.IGNORECASE,
)
_BLOCKED: tuple[tuple[str, str], ...] = (
    (r"(?:Assoc|QOS)Grp\w*Limit", "the budget of the account or the limit of its group is exhausted"),
    (
        r"command not found|(?:sbatch|squeue|sacct|scancel): not found|No such file or directory: .?sbatch",
        "[SSH] host must have SLURM on its PATH",
    ),
    (r"Disk quota exceeded|No space left on device", "free space on the cluster"),
    (
        r"group not permitted|Access/permission denied|Permission denied",
        "the account has no permission for this on the cluster",
    ),
    (r"Account.*expired|User not found|Invalid user", "the account is not known to SLURM"),
    (r"Unable to process configuration file|ClusterName needs", "SLURM's configuration is not found on [SSH] host"),
)
_PERMANENT: tuple[tuple[str, str], ...] = (
    (r"invalid partition|Invalid partition", _PARTITION),
    (r"Invalid account|account/partition combination", "[SLURM] sbatch_account, or [WORKFLOWS] <workflow>_job_account"),
    (r"Invalid qos|QOS", "[SLURM] sbatch_qos, or [WORKFLOWS] <workflow>_job_qos, or less of what the limit names"),
    (
        r"unrecognized option|invalid option|ambiguous",
        "sbatch does not know an option: check [SLURM] sbatch_… and <workflow>_job_…",
    ),
    (r"[Tt]ime limit|Invalid --time|Wall", _TIME),
    (r"[Mm]emory|--mem", "[WORKFLOWS] <workflow>_job_mem, or [SLURM] sbatch_mem"),
    (r"[Ii]nvalid generic resource|gres|GRES|gpu|TRES", "[SLURM] gpu_gres or gpu_gpus, or <workflow>_job_gres"),
    (r"feature|constraint", "[SLURM] sbatch_constraint, or [WORKFLOWS] <workflow>_job_constraint"),
    (r"node configuration is not available|processors|Node count|CPU count|node count", _SIZE),
    (
        r"Invalid job array",
        "the site allows no arrays, or only smaller ones (scontrol show config: MaxArraySize): use a larger batch size",
    ),
    (r"license", "[SLURM] sbatch_licenses, or [WORKFLOWS] <workflow>_job_licenses"),
    (r"reservation", "[SLURM] sbatch_reservation, or [WORKFLOWS] <workflow>_job_reservation"),
    (r"Unable to open file", "the job script is not on the cluster: was the run's folder removed there?"),
    (r"Assoc\w*(?:Max|Min)\w*|size and/or time limits", f"{_SIZE}; {_TIME}"),
)


def classify_submission(answer: Completed) -> Fault:
    """The fault of an `sbatch` call that returned no job id."""
    output = answer.stderr or answer.stdout
    evidence = tail(output)
    reason = _reason(output) or f"sbatch ended with exit code {answer.returncode} and without a message"
    if answer.ok:
        return SubmissionUncertain("sbatch returned no job id", detail=evidence)
    if _UNCERTAIN.search(output):
        return SubmissionUncertain(f"SLURM did not answer: {reason}", detail=evidence)
    for pattern, hint in _BLOCKED[:1]:
        if re.search(pattern, output):
            return Blocked(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    if _TEMPORARY.search(output):
        return Transient(
            f"SLURM accepts no jobs now: {reason}", hint="the job will be submitted again", detail=evidence
        )
    for pattern, hint in _BLOCKED:
        if answer.returncode == 127 or re.search(pattern, output):
            return Blocked(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    if 128 < answer.returncode < 192:  # killed by a signal (255 is sbatch's own code, for a wrong option)
        return SubmissionUncertain(f"sbatch was killed: {reason}", detail=evidence)
    for pattern, hint in _PERMANENT:
        if re.search(pattern, output):
            return Permanent(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    return Permanent(
        f"SLURM refused the job: {reason}", hint="check [SLURM] sbatch_… and <workflow>_job_…", detail=evidence
    )


def scheduler_unavailable(what: str, errors: str) -> Fault:
    """The fault if SLURM's commands fail; ``errors`` is what they printed."""
    for pattern, hint in _BLOCKED[1:2] + _BLOCKED[5:6]:
        if re.search(pattern, errors):
            return Blocked(f"{what}: SLURM is not usable", hint=hint, detail=tail(errors))
    return Transient(f"{what}: SLURM does not answer", detail=tail(errors))


def _reason(output: str) -> str:
    """The last two messages of sbatch: the cause and the result."""
    lines = [
        re.sub(r"^s(?:batch|run|lurm\w*): (?:error|fatal): |^sbatch: ", "", line.strip())
        for line in output.splitlines()
    ]
    lines = [line for line in lines if line and not line.startswith("Try ")]
    if not lines:
        return ""
    last = lines[-1].removeprefix("Batch job submission failed: ")
    return last if len(lines) == 1 else f"{lines[-2]}: {last}"
