"""Hand an attempt to the scheduler at most once, whoever tries, and however often.

The loss that this module prevents: two jobs of one attempt. Looking for a job before submitting it is not enough: a
supervisor may be stopped for minutes between its look and its ``sbatch``, and by then another has taken the run. So
two things are decided on the cluster, each by one atomic act in the attempt's folder:

``submitting/``
    made with ``mkdir`` by whoever calls ``sbatch``, in the same remote execution; who comes second does not submit.
    It keeps what sbatch said. A definite refusal gives it back.
``holder``
    a symbolic link to nothing, named after the job that may run in the attempt: made by the first job that starts, or
    pointed at ``given-up`` by who gives the attempt up; a job that finds another name there ends at once.

Pure: builds commands and reads answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.cluster.slurm.submit_errors import DOUBT, SubmissionUncertain

CLAIM, HOLDER, GIVEN_UP = "submitting", "holder", "given-up"


class AttemptClaimed(SubmissionUncertain):
    """Somebody has called sbatch for this attempt before, or is about to, and its answer is not known.

    ``seconds`` is for how long nothing has been heard of that, by the cluster's clock.
    """

    def __init__(self, message: str, *, seconds: float, detail: str = "") -> None:
        super().__init__(message, detail=detail)
        self.seconds = seconds


class AttemptAbandoned(SubmissionUncertain):
    """The attempt was given up: whatever job of it turns up will do nothing. It takes a new attempt."""


#: $1 the attempt's folder, $2 what sbatch says when it does not know (an extended regular expression), then the call.
#: What sbatch says goes into files first: a link that is lost meanwhile must not kill it, nor lose its answer.
_SUBMIT = rf"""
folder=$1 doubt=$2; shift 2
claim=$folder/{CLAIM}
trap '' HUP
if holder=$(readlink -- "$folder/{HOLDER}"); then printf '[holder] %s\n' "$holder"; exit 0; fi
[ -d "$folder" ] || {{ echo "Unable to open file in $folder: it is not there" >&2; exit 1; }}
if complaint=$(mkdir -- "$claim" 2>&1); then
  "$@" >"$claim/answer" 2>"$claim/complaints" </dev/null; status=$?
  cat -- "$claim/answer"; cat -- "$claim/complaints" >&2
  if [ "$status" -ne 0 ] && {{ [ "$status" -le 128 ] || [ "$status" -ge 192 ]; }} &&
    ! grep -Eiq -e "$doubt" -- "$claim/answer" "$claim/complaints"; then rm -rf -- "$claim"; fi
  exit "$status"
fi
[ -d "$claim" ] || {{ echo "$complaint" >&2; exit 1; }}
printf '[claimed] %d\n' "$(($(date +%s) - $(stat -c %Y -- "$claim")))"
cat -- "$claim/answer" 2>/dev/null
exit 0
"""

#: $1 the attempt's folder. Says who holds it now: ``given-up``, or the job that was first. In a folder that is gone
#: no job can do anything.
_GIVE_UP = rf"""
ln -sT -- {GIVEN_UP} "$1/{HOLDER}" 2>/dev/null
readlink -- "$1/{HOLDER}" || {{ [ -d "$1" ] && exit 1; echo {GIVEN_UP}; }}
"""

#: $1 how many folders follow; they are given up, then the rest is called.
_CANCEL = rf"""
count=$1; shift
while [ "$count" -gt 0 ]; do ln -sT -- {GIVEN_UP} "$1/{HOLDER}" 2>/dev/null; shift; count=$((count - 1)); done
exec "$@"
"""


@dataclass(frozen=True)
class Submission:
    """The answer to `submit_command`: a job, or who was there before."""

    job_id: int | None
    given_up: bool = False
    claimed_seconds: float | None = None


def submit_command(job: JobSpec) -> list[str]:
    """One remote execution that claims the attempt in ``job.workdir`` and, only then, calls sbatch."""
    return ["sh", "-c", _SUBMIT, "submit", job.workdir, DOUBT, *commands.submit_command(job)]


def parse_submission(text: str) -> Submission:
    """Read the answer of an execution that ended with 0."""
    first, _, rest = text.partition("\n")
    word, _, value = first.partition(" ")
    if word == "[holder]":
        return Submission(int(value) if value.isdigit() else None, given_up=value == GIVEN_UP)
    if word == "[claimed]":
        return Submission(commands.parse_submitted(rest), claimed_seconds=float(value))
    return Submission(commands.parse_submitted(text))


def give_up_command(folder: str) -> list[str]:
    """Let no job begin in this attempt any more, unless one has; read by `parse_holder`."""
    return ["sh", "-c", _GIVE_UP, "give-up", folder]


def parse_holder(text: str) -> int | None:
    """The job that has begun in the attempt; None when it is given up now."""
    return int(text) if text.strip().isdigit() else None


def cancel_command(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Cancel the jobs of these names; one that the scheduler brings up later will find its folder given up."""
    return ["sh", "-c", _CANCEL, "cancel", str(len(folders)), *folders, *commands.cancel_command(names)]
