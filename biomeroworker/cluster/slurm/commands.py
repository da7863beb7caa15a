"""Build SLURM's commands and parse their answers, in pairs of pure functions. Nothing here opens a connection.

Jobs are queried by name, all in one remote execution: `squeue` for the jobs in the controller's memory (waiting,
running, and ended within ``MinJobAge``), `sacct` for the others and for exit codes. Behaviour observed with 22.05:

* Times are local to the cluster, without a zone: both commands run in UTC. The user's ``SQUEUE_*``, ``SACCT_*`` and
  ``SLURM_TIME_FORMAT`` variables change the output and are unset.
* Job ids are reused after a reset of the controller; names (an attempt's id) are not.
* For some seconds after the end of a job, accounting has no row, a row named "allocation", or a stale RUNNING: a job
  that has left the queue is UNKNOWN until accounting has recorded its end. Absent does not mean done.
* A refused submission leaves a FAILED row with the job's name, without a node: there was no job.
* A job that was never eligible (held, or with a later start time) is not in the window of ``sacct -S``: it is also
  queried by its id.
* squeue truncates the list of an array's waiting tasks at 64 bytes unless ``SLURM_BITSTR_LEN`` is 0. When waiting tasks
  are cancelled together, it prints one row for all of them, without a task.
* ``scontrol release`` releases what it can, and then ends with 1 if one of the tasks had ended; it does nothing if it
  does not know one of the tasks, or if the list has a step.
* Accounting's row for an array's waiting tasks (``55_[2,5]``) also lists tasks that have started since and have rows of
  their own, and reports all of them as cancelled when the last one was.
* The reason in accounting is why a job waited, never how it ended; the reason in squeue is both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from biomeroworker.cluster.slurm import parsing as words
from biomeroworker.cluster.slurm.parsing import array_expression, state_of
from biomeroworker.cluster.slurm.scheduler import JobSpec, Limits
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.errors import Permanent

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
#: Longer lists of names do not fit into one argument (128 KiB, execve(2)); then all jobs of the user are queried.
_MOST_NAME_BYTES = 60_000
#: Maximum difference between the clocks of worker and cluster.
_CLOCK_SLACK = timedelta(hours=1)


# -- submit ------------------------------------------------------------------------------------------------------------


def submit_command(job: JobSpec) -> list[str]:
    """The `sbatch` call for a job. The order of options does not matter, because none occurs twice."""
    _checked([job.name])
    argv = ["sbatch", "--parsable", f"--job-name={job.name}", f"--output={job.stdout}", f"--chdir={job.workdir}"]
    if job.array:
        argv.append(f"--array={job.array}")
    if job.hold:
        argv.append("--hold")
    for option, value in job.options.items():
        if not _OPTION.fullmatch(option):
            raise Permanent(f"{option!r} is not an option of sbatch", hint=f"check sbatch_{option} and job options")
        argv.append(f"--{option}={value}" if value else f"--{option}")
    if job.script.startswith("-"):
        raise Permanent(f"{job.script!r} cannot be submitted: it looks like an option")
    return [*argv, job.script, *job.arguments]


_PARSABLE = re.compile(r"^(\d+)(?:;[^\s;]+)?\s*$", re.MULTILINE)
_SENTENCE = re.compile(r"^Submitted batch job (\d+)(?: on cluster \S+)?\s*$", re.MULTILINE)


def parse_submitted(text: str) -> int | None:
    """The job id in sbatch's output (``123``, ``123;cluster``, or a sentence); None if there is none.

    A site's submit plugin may print other lines, so the last line of this form counts.
    """
    found = _PARSABLE.findall(text) or _SENTENCE.findall(text)
    return int(found[-1]) if found else None


# -- status ------------------------------------------------------------------------------------------------------------

_ENVIRONMENT = r"""
unset $(env | sed -n 's/^\(S\(QUEUE\|ACCT\|CANCEL\)_[A-Z0-9_]*\)=.*/\1/p') SLURM_TIME_FORMAT
export TZ=UTC LC_ALL=C SLURM_BITSTR_LEN=0
user=$(id -un)
"""

#: $1 names, comma-separated (may be empty: all), $2 since, $3 job ids, comma-separated (may be empty), $4 the data
#: folder (may be empty), which has a progress file of each running job; it is read without a process per job.
_STATUS = (
    _ENVIRONMENT
    + r"""
rows=JobID,Submit,ElapsedRaw,ExitCode,MaxRSS,TotalCPU,AllocCPUS,AllocTRES,NodeList,State,Reason,JobName
echo '[squeue]'
queue=$(squeue -h -u "$user" -t all ${1:+--name="$1"} -o '%F|%K|%T|%V|%M|%N|%r|%j' 2>&1); code=$?
printf '%s\n' "$queue"; echo "[end $code]"
echo '[sacct]'; sacct -n -P -u "$user" -S "$2" -E now+3650days ${1:+--name="$1"} -o "$rows" 2>&1; echo "[end $?]"
[ -z "$3" ] || { echo '[sacct]'; sacct -n -P -j "$3" -o "$rows" 2>&1; echo "[end $?]"; }
[ -n "$4" ] && cd -- "$4" 2>/dev/null || exit 0
echo '[progress]'
printf '%s\n' "$queue" | while IFS='|' read -r _ task state _ _ _ _ name; do
  case $task/$state/$name in N/A/RUNNING/biomero-*-*) ;; *) continue ;; esac
  run=${name%-*}
  progress=
  { read -r progress <"biomero_${run#biomero-}/attempt-${name##*-}/progress"; } 2>/dev/null
  [ -z "$progress" ] || printf '%s %s\n' "$name" "$progress"
done
echo "[end 0]"
"""
)


@dataclass(frozen=True)
class SchedulerSnapshot:
    """The statuses that squeue and sacct reported, and which of the two answered (``queue``, ``accounting``).

    ``unaccounted``: the site has no accounting, so the end of a job that has left the queue cannot be known.
    """

    jobs: tuple[JobStatus, ...]
    queue: bool
    accounting: bool
    errors: str = ""
    unaccounted: bool = False
    progress: Mapping[str, str] = field(default_factory=dict)

    def by_name(self, names: Sequence[str]) -> dict[str, list[JobStatus]]:
        """The statuses of each name, array tasks in order; an empty list for an unknown job."""
        found: dict[str, list[JobStatus]] = {name: [] for name in names}
        for job in self.jobs:
            if job.name in found:
                found[job.name].append(replace(job, progress=self.progress.get(job.name)))
        return found

    def unrecoverable(self, name: str) -> JobStatus | None:
        """The status of a job without a row, if its end can never be known; else None."""
        if not (self.queue and self.unaccounted):
            return None
        reason = "it is no longer in the queue, and this cluster has no accounting"
        return JobStatus(name=name, job_id=-1, state=JobState.UNKNOWN, raw_state="", reason=reason, unrecoverable=True)


def status_command(
    names: Sequence[str], since: datetime, job_ids: Sequence[int] = (), data_folder: str = ""
) -> list[str]:
    """One remote execution that queries all jobs of these names.

    Parameters
    ----------
    names
        Attempt ids, as given to ``sbatch --job-name``.
    since
        Earliest submit time of any of them, with a time zone.
    job_ids
        The known ids: with them accounting also finds jobs that were never eligible.
    data_folder
        Has the folders of the runs, with the progress files of running jobs.
    """
    _checked(names)
    listed = ",".join(names)
    start = (since.astimezone(UTC) - _CLOCK_SLACK).strftime("%Y-%m-%dT%H:%M:%S")
    ids = ",".join(str(one) for one in job_ids)
    return ["sh", "-c", _STATUS, "status", listed if len(listed) <= _MOST_NAME_BYTES else "", start, ids, data_folder]


_NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)
_PROGRESS = re.compile(r"^(\S+) (\d{1,3}(?:\.\d*)?)\s*%?\s*$", re.MULTILINE)
_SECTION = re.compile(r"\[(squeue|sacct|progress)\]\n(.*?)^\[end (\d+)\]$", re.DOTALL | re.MULTILINE)


def parse_status(text: str) -> SchedulerSnapshot:
    """Merge the rows of squeue and sacct: squeue wins while a job is in the queue, sacct adds how it ended."""
    queued: dict[tuple[int, int | None], JobStatus] = {}
    accounted: dict[tuple[int, int | None], JobStatus] = {}
    answered = {"squeue": False, "sacct": False}
    errors: list[str] = []
    progress: dict[str, str] = {}
    for source, body, code in _SECTION.findall(text):
        if source == "progress":
            progress = {name: f"{min(int(float(number)), 100)}%" for name, number in _PROGRESS.findall(body)}
            continue
        if code != "0":
            errors += [line for line in body.splitlines() if line.strip()]
            continue
        answered[source] = True
        if source == "squeue":
            queued.update(((job.job_id, job.task), job) for job in _queue_rows(body))
        else:
            _account(body, accounted)
    _expand_arrays(queued, accounted)
    merged = [
        _merged(queued.get(key), accounted.get(key), answered["squeue"])
        for key in sorted({*queued, *accounted}, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    ]
    text = "\n".join(errors)
    return SchedulerSnapshot(
        _newest(merged), answered["squeue"], answered["sacct"], text, bool(_NO_ACCOUNTING.search(text)), progress
    )


def cancel_command(names: Sequence[str]) -> list[str]:
    """Cancel the user's own jobs of these names, with all tasks. An ended or missing job is no error."""
    _checked(names)
    program = _ENVIRONMENT + 'worst=0; for name do scancel -u "$user" --name="$name" || worst=$?; done; exit "$worst"'
    return ["sh", "-c", program, "cancel", *names]


#: $1 a job's name, $2 its tasks as a list, then one by one, for the case that some have ended.
_RELEASE = (
    _ENVIRONMENT
    + r"""
name=$1 listed=$2; shift 2
release() {
  complaint=$(scontrol release "${job}_$1" 2>&1) && return 0
  case $complaint in *already*finished* | *already*complet* | *nvalid*job*id*) return 2 ;; esac
  echo "$complaint" >&2; return 1
}
jobs=$(squeue -h -u "$user" -t all --name="$name" -o %F) || exit 1
job=$(echo "$jobs" | sort -n | tail -n 1)
[ -n "$job" ] || exit 0
release "[$listed]"; status=$?
[ "$status" -eq 2 ] || exit "$status"
worst=0
for task do release "$task"; [ $? -ne 1 ] || worst=1; done
exit "$worst"
"""
)


def release_command(name: str, tasks: Iterable[int]) -> list[str]:
    """Release tasks of an array that was submitted with ``hold``. A task that has started or ended is no error."""
    _checked([name])
    listed = sorted(set(tasks))
    return ["sh", "-c", _RELEASE, "release", name, array_expression(listed), *map(str, listed)]


def limits_command() -> list[str]:
    """The configuration of the controller; parsed by `parse_limits`."""
    return ["scontrol", "show", "config"]


def parse_limits(text: str) -> Limits | None:
    """The limits in ``scontrol show config``, with SLURM's defaults; None if the text is not its output."""
    values = {
        key.strip(): value.strip() for key, bar, value in (line.partition("=") for line in text.splitlines()) if bar
    }
    if "SLURM_VERSION" not in values and "MaxArraySize" not in values:
        return None
    parameters = dict(item.partition("=")[::2] for item in values.get("SchedulerParameters", "").split(","))
    default = Limits()

    def number(text: str, otherwise: int) -> int:
        return int(text) if text.isdigit() else otherwise

    return Limits(
        max_array_size=number(values.get("MaxArraySize", ""), default.max_array_size),
        max_array_tasks=number(parameters.get("max_array_tasks", ""), default.max_array_tasks),
        max_job_count=number(values.get("MaxJobCount", ""), default.max_job_count),
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def _checked(names: Sequence[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a job name of an attempt")


def _queue_rows(body: str) -> Iterator[JobStatus]:
    for line in body.splitlines():
        columns = line.split("|", 7)
        if len(columns) != 8 or not columns[0].isdigit():
            continue  # a warning between the rows
        job_id, tasks, word, submitted, elapsed, node, reason, name = columns
        seconds = words.duration(elapsed)
        status = JobStatus(
            name=name.rstrip(),
            job_id=int(job_id),
            state=state_of(word),
            raw_state=word,
            reason=words.blank_to_empty(reason),
            node=words.blank_to_empty(node),
            submitted=words.parse_time(submitted),
            elapsed_seconds=None if seconds is None else int(seconds),
            in_queue=True,
        )
        for task in words.tasks_of(tasks):
            yield replace(status, task=task)


_JOB_ID = re.compile(r"(\d+)(?:\+\d+)?(?:_(\d+|\[[^\]]*\]))?(\..+)?")


@dataclass(frozen=True)
class _AccountingRow:
    """One row of sacct: of a job (or of the array tasks in ``tasks``), or of a step of it."""

    status: JobStatus
    tasks: str
    is_step: bool

    @property
    def was_refused(self) -> bool:
        """Whether it belongs to a submission that was refused."""
        return self.status.raw_state.startswith("FAILED") and not self.status.node and self.status.elapsed_seconds == 0


def _accounting_row(line: str) -> _AccountingRow | None:
    """Parse a line; None for a warning between the rows."""
    columns = line.split("|", 11)
    match = _JOB_ID.fullmatch(columns[0])
    if len(columns) != 12 or not match:
        return None
    _, submitted, elapsed, exit_code, memory, cpu, cpus, tres, node, word, reason, name = columns
    state, node = state_of(word), words.blank_to_empty(node)
    code, signal = words.exit_of(exit_code)
    is_step = bool(match[3])
    status = JobStatus(
        name=name.rstrip(),
        job_id=int(match[1]),
        state=state,
        raw_state=word,
        reason="" if node and state.is_terminal else words.blank_to_empty(reason),
        exit_code=code,
        signal=signal,
        node=node,
        submitted=words.parse_time(submitted),
        elapsed_seconds=words.count(elapsed),
        cpu_seconds=words.duration(cpu),
        cpus=words.count(cpus),
        gpus=words.gpus_of(tres),
        max_rss_bytes=words.size(memory) if is_step else None,
        accounted=state.is_terminal,
    )
    return _AccountingRow(status, match[2] or "", is_step)


def _account(body: str, into: dict[tuple[int, int | None], JobStatus]) -> None:
    """Parse accounting's rows: a job's own row comes first, then its steps, of which only the memory is used."""
    for row in filter(None, map(_accounting_row, body.splitlines())):
        for task in words.tasks_of(row.tasks):
            key = (row.status.job_id, task)
            merged = _with_row(into.get(key), row, task)
            if merged is None:
                into.pop(key, None)
            else:
                into[key] = merged


def _with_row(known: JobStatus | None, row: _AccountingRow, task: int | None) -> JobStatus | None:
    """A status after one more row; None if there is no such job."""
    if row.is_step:
        peak = max(row.status.max_rss_bytes or 0, known.max_rss_bytes or 0) if known else 0
        return replace(known, max_rss_bytes=peak or None) if known else None
    if known and row.tasks.startswith("["):
        return known  # a task that has started has a row of its own
    if known and known.name != row.status.name:
        return known  # found by its id, which was another job's before the controller was reset
    return None if row.was_refused else replace(row.status, task=task)


def _expand_arrays(
    queued: dict[tuple[int, int | None], JobStatus], accounted: Iterable[tuple[int, int | None]]
) -> None:
    """Copy an array's row in squeue that has no task to those of its tasks that only accounting lists.

    The row itself remains, for tasks that accounting does not list yet (`scheduler.by_task`).
    """
    whole = {job_id: status for (job_id, task), status in queued.items() if task is None}
    for job_id, task in accounted:
        if task is not None and job_id in whole:
            queued.setdefault((job_id, task), replace(whole[job_id], task=task))


def _merged(queued: JobStatus | None, accounted: JobStatus | None, queue_answered: bool) -> JobStatus:
    if queued is None:
        assert accounted is not None
        if queue_answered and not accounted.state.is_terminal:
            return replace(
                accounted, state=JobState.UNKNOWN, reason="left the queue; accounting has not recorded its end yet"
            )
        return accounted
    if accounted is None or not queued.state.is_terminal or accounted.state is not queued.state:
        return queued
    node = queued.node or accounted.node
    return replace(accounted, name=queued.name, reason=queued.reason, node=node, in_queue=True)


def _newest(jobs: list[JobStatus]) -> tuple[JobStatus, ...]:
    """Of several jobs with one name, the one that was submitted last; refused submissions do not count."""
    real = [job for job in jobs if not (job.state is JobState.FAILED and job.reason == "BadConstraints")]
    newest: dict[str, tuple[datetime, int]] = {}
    for job in real:
        age = (job.submitted or datetime.min.replace(tzinfo=UTC), job.job_id)
        newest[job.name] = max(newest.get(job.name, age), age)
    return tuple(job for job in real if newest[job.name][1] == job.job_id)
