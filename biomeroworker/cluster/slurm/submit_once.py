"""Submit an attempt to SLURM at most once, whatever number of processes try.

This module prevents two jobs of one attempt. To look for a job before it is submitted is not enough: a supervisor may
be suspended for minutes between the look and its ``sbatch``, while another supervisor takes over the run. So two
decisions are made on the cluster, each by one atomic operation in the attempt's folder:

``submitting/``
    A folder that the process which calls ``sbatch`` makes with ``mkdir``, in the same remote execution. A second
    process does not submit. The folder holds the output of sbatch. It is removed if sbatch definitely refuses the job.
``holder``
    A symbolic link whose target is only a name: the id of the job that may run in the attempt. The first job that
    starts makes it, or `give_up_command` makes it with the name ``given-up``. A job that finds another name there ends
    immediately.

Pure: builds commands and parses answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.cluster.slurm.submit_errors import UNCERTAIN, SubmissionUncertain

CLAIM, HOLDER, GIVEN_UP = "submitting", "holder", "given-up"


class AttemptClaimed(SubmissionUncertain):
    """Another call of sbatch for this attempt was made, or is being made, and its result is not known.

    ``seconds`` is the time since then, by the cluster's clock.
    """

    def __init__(self, message: str, *, seconds: float, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.seconds = seconds


class AttemptAbandoned(SubmissionUncertain):
    """The attempt was abandoned: a job of it that appears later does nothing. A new attempt is needed."""


#: $1 the attempt's folder, $2 messages of sbatch after which the result is uncertain (an extended regular expression),
#: then the call. The output of sbatch goes into files first: a lost connection must neither kill it nor lose the
#: output.
_SUBMIT = rf"""
folder=$1 uncertain=$2; shift 2
claim=$folder/{CLAIM}
trap '' HUP
if holder=$(readlink -- "$folder/{HOLDER}"); then printf '[holder] %s\n' "$holder"; exit 0; fi
[ -d "$folder" ] || {{ echo "Unable to open file in $folder: it is not there" >&2; exit 1; }}
if complaint=$(mkdir -- "$claim" 2>&1); then
  "$@" >"$claim/answer" 2>"$claim/complaints" </dev/null; status=$?
  cat -- "$claim/answer"; cat -- "$claim/complaints" >&2
  if [ "$status" -ne 0 ] && {{ [ "$status" -le 128 ] || [ "$status" -ge 192 ]; }} &&
    ! grep -Eiq -e "$uncertain" -- "$claim/answer" "$claim/complaints"; then rm -rf -- "$claim"; fi
  exit "$status"
fi
[ -d "$claim" ] || {{ echo "$complaint" >&2; exit 1; }}
printf '[claimed] %d\n' "$(($(date +%s) - $(stat -c %Y -- "$claim")))"
cat -- "$claim/answer" 2>/dev/null
exit 0
"""

#: $1 the attempt's folder. Prints its holder: ``given-up``, or the job that started first. Without the folder no job
#: can start.
_GIVE_UP = rf"""
ln -sT -- {GIVEN_UP} "$1/{HOLDER}" 2>/dev/null
readlink -- "$1/{HOLDER}" || {{ [ -d "$1" ] && exit 1; echo {GIVEN_UP}; }}
"""

#: $1 how many folders follow; their attempts are abandoned, then the rest is called.
_CANCEL = rf"""
count=$1; shift
while [ "$count" -gt 0 ]; do ln -sT -- {GIVEN_UP} "$1/{HOLDER}" 2>/dev/null; shift; count=$((count - 1)); done
exec "$@"
"""


@dataclass(frozen=True)
class Submission:
    """The answer to `submit_command`: a job, or the state of an earlier submission."""

    job_id: int | None
    given_up: bool = False
    claimed_seconds: float | None = None


def submit_command(job: JobSpec) -> list[str]:
    """One remote execution that claims the attempt in ``job.workdir`` and, only then, calls sbatch."""
    return ["sh", "-c", _SUBMIT, "submit", job.workdir, UNCERTAIN, *commands.submit_command(job)]


def parse_submission(text: str) -> Submission:
    """Parse the answer of an execution that ended with exit code 0."""
    first, _, rest = text.partition("\n")
    word, _, value = first.partition(" ")
    if word == "[holder]":
        return Submission(int(value) if value.isdigit() else None, given_up=value == GIVEN_UP)
    if word == "[claimed]":
        return Submission(commands.parse_submitted(rest), claimed_seconds=float(value))
    return Submission(commands.parse_submitted(text))


def give_up_command(folder: str) -> list[str]:
    """Prevent jobs from starting in this attempt, unless one has started; parsed by `parse_holder`."""
    return ["sh", "-c", _GIVE_UP, "give-up", folder]


def parse_holder(text: str) -> int | None:
    """The job that has started in the attempt; None if the attempt is abandoned now."""
    return int(text) if text.strip().isdigit() else None


def cancel_command(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Cancel the jobs of these names, and abandon the attempts in these folders, so that later jobs do nothing."""
    return ["sh", "-c", _CANCEL, "cancel", str(len(folders)), *folders, *commands.cancel_command(names)]
