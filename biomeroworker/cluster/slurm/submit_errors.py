"""Why `sbatch` did not take a job, and what that means for a run.

The sentences are those of slurm_errno.c and of sbatch(1); they come on stderr, the most telling one first. A new
sentence is permanent: sbatch has looked at the job and did not want it, and will not want it the next time.
"""

from __future__ import annotations

import re

from biomeroworker.cluster.transport.errors import tail
from biomeroworker.cluster.transport.transport import Completed
from biomeroworker.errors import Blocked, Fault, Permanent, Transient


class SubmissionUncertain(Transient):
    """The scheduler may have taken the job, though it did not say so: look for it before submitting again."""


_PARTITION = (
    "[SLURM] slurm_default_partition or sbatch_partition, or [WORKFLOWS] <workflow>_job_partition; sinfo -s lists them"
)
_SIZE = "[WORKFLOWS] <workflow>_job_mem, _job_cpus-per-task, _job_gres, _job_nodes, or [SLURM] sbatch_<option>"
_TIME = "[WORKFLOWS] <workflow>_job_time, or [SLURM] sbatch_time"

#: The question was asked and the answer was lost. Read by grep -Ei on the cluster, too.
DOUBT = (
    r"Socket timed out|Zero Bytes were transmitted|Message receive failure|Slurmctld returned.*timed? ?out"
    r"|Communication connection failure|Unexpected message received|Connection reset by peer"
)
_DOUBT = re.compile(DOUBT, re.IGNORECASE)
#: Passing troubles, and limits that end when other jobs end.
_WAIT = re.compile(
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
    (r"(?:Assoc|QOS)Grp\w*Limit", "the account's budget on the cluster is used up, or its group's limit reached"),
    (
        r"command not found|(?:sbatch|squeue|sacct|scancel): not found|No such file or directory: .?sbatch",
        "[SSH] host must have SLURM on its PATH",
    ),
    (r"Disk quota exceeded|No space left on device", "free space on the cluster"),
    (r"group not permitted|Access/permission denied|Permission denied", "the account may not do this on the cluster"),
    (r"Account.*expired|User not found|Invalid user", "the account is not known to SLURM"),
    (r"Unable to process configuration file|ClusterName needs", "SLURM's configuration is not found on [SSH] host"),
)
_PERMANENT: tuple[tuple[str, str], ...] = (
    (r"invalid partition|Invalid partition", _PARTITION),
    (r"Invalid account|account/partition combination", "[SLURM] sbatch_account, or [WORKFLOWS] <workflow>_job_account"),
    (r"Invalid qos|QOS", "[SLURM] sbatch_qos, or [WORKFLOWS] <workflow>_job_qos, or less of what the limit names"),
    (
        r"unrecognized option|invalid option|ambiguous",
        "an option is not known: see [SLURM] sbatch_… and <workflow>_job_…",
    ),
    (r"[Tt]ime limit|Invalid --time|Wall", _TIME),
    (r"[Mm]emory|--mem", "[WORKFLOWS] <workflow>_job_mem, or [SLURM] sbatch_mem"),
    (r"[Ii]nvalid generic resource|gres|GRES|gpu|TRES", "[SLURM] gpu_gres or gpu_gpus, or <workflow>_job_gres"),
    (r"feature|constraint", "[SLURM] sbatch_constraint, or [WORKFLOWS] <workflow>_job_constraint"),
    (r"node configuration is not available|processors|Node count|CPU count|node count", _SIZE),
    (
        r"Invalid job array",
        "the site allows no arrays, or shorter ones (MaxArraySize of scontrol show config): take more images at once",
    ),
    (r"license", "[SLURM] sbatch_licenses, or [WORKFLOWS] <workflow>_job_licenses"),
    (r"reservation", "[SLURM] sbatch_reservation, or [WORKFLOWS] <workflow>_job_reservation"),
    (r"Unable to open file", "the job script is not on the cluster: was the run's folder removed there?"),
    (r"Assoc\w*(?:Max|Min)\w*|size and/or time limits", f"{_SIZE}; {_TIME}"),
)


def classify_submission(answer: Completed) -> Fault:
    """The fault of an `sbatch` call that gave no job id."""
    said = answer.stderr or answer.stdout
    evidence = tail(said)
    reason = _sentence(said) or f"sbatch ended with {answer.returncode} and said nothing"
    if answer.ok:
        return SubmissionUncertain("sbatch gave no job id", detail=evidence)
    if _DOUBT.search(said):
        return SubmissionUncertain(f"SLURM did not answer: {reason}", detail=evidence)
    for pattern, hint in _BLOCKED[:1]:
        if re.search(pattern, said):
            return Blocked(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    if _WAIT.search(said):
        return Transient(f"SLURM does not take jobs now: {reason}", hint="it is submitted again", detail=evidence)
    for pattern, hint in _BLOCKED:
        if answer.returncode == 127 or re.search(pattern, said):
            return Blocked(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    if 128 < answer.returncode < 192:  # killed by a signal, at whatever point (255 is its own: a wrong option)
        return SubmissionUncertain(f"sbatch was killed: {reason}", detail=evidence)
    for pattern, hint in _PERMANENT:
        if re.search(pattern, said):
            return Permanent(f"SLURM refused the job: {reason}", hint=hint, detail=evidence)
    return Permanent(
        f"SLURM refused the job: {reason}", hint="check [SLURM] sbatch_… and <workflow>_job_…", detail=evidence
    )


def scheduler_unavailable(what: str, complaints: str) -> Fault:
    """The fault of a scheduler of which neither voice answered."""
    for pattern, hint in _BLOCKED[1:2] + _BLOCKED[5:6]:
        if re.search(pattern, complaints):
            return Blocked(f"{what}: SLURM is not usable", hint=hint, detail=tail(complaints))
    return Transient(f"{what}: SLURM does not answer", detail=tail(complaints))


def _sentence(said: str) -> str:
    """The first thing that sbatch complains of, and its last word on it."""
    lines = [
        re.sub(r"^s(?:batch|run|lurm\w*): (?:error|fatal): |^sbatch: ", "", line.strip()) for line in said.splitlines()
    ]
    lines = [line for line in lines if line and not line.startswith("Try ")]
    if not lines:
        return ""
    last = lines[-1].removeprefix("Batch job submission failed: ")
    return last if len(lines) == 1 else f"{lines[-2]}: {last}"
