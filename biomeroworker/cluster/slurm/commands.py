"""SLURM as pairs of pure functions: build a command, read its answer. Nothing here opens a connection.

Jobs are asked for by name, all in one remote execution: `squeue` for what the controller remembers (waiting, running,
and finished within its ``MinJobAge``), `sacct` for the rest and for exit codes. What 22.05 taught about the two:

* Times are the cluster's local ones, without a zone: both are asked in UTC. The user's own ``SQUEUE_*``, ``SACCT_*``
  and ``SLURM_TIME_FORMAT`` variables change what is printed and are dropped.
* Job ids are used again after a controller's reset; names (an attempt's id) are not.
* For some seconds after a job's end accounting has no row, a row named "allocation", or a stale RUNNING: a job that
  left the queue is UNKNOWN until accounting says how it ended. Absent is not done.
* A refused submission leaves a FAILED row with the job's name behind, on no node: it never was a job.
* A job that was never eligible (held, or begins later) is not in the window of ``sacct -S``: it is asked for by id
  also.
* squeue cuts the list of an array's waiting tasks at 64 bytes unless ``SLURM_BITSTR_LEN`` is 0. Once they are cancelled
  together it has one row for all of them, without a task.
* ``scontrol release`` does what it can and then ends with 1 if one task had ended; in one that it has forgotten, or a
  list with a step, it does nothing at all.
* Accounting's row for an array's waiting tasks (``55_[2,5]``) goes on naming tasks that have begun since and have rows
  of their own, and says of all of them that they were cancelled when the last one was.
* Accounting's reason is why a job waited, never how it ended; the queue's is both.
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
#: Longer lists of names do not fit into one argument (128 KiB, execve(2)); then all of the user's jobs are asked for.
_MOST_NAME_BYTES = 60_000
#: How far the clocks of worker and cluster may be apart.
_CLOCK_SLACK = timedelta(hours=1)


# -- submit ------------------------------------------------------------------------------------------------------------


def submit_command(job: JobSpec) -> list[str]:
    """The `sbatch` call for a job; the options' order does not matter, as none is given twice."""
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
    """The job id in sbatch's answer (``123``, ``123;cluster``, or its sentence); None if there is none.

    A site's submit plugin may print around it, so the last such line counts.
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
#: folder (may be empty): each running job's own file there says how far it is, read without a process for each.
_ASK = (
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
  said=
  { read -r said <"biomero_${run#biomero-}/attempt-${name##*-}/progress"; } 2>/dev/null
  [ -z "$said" ] || printf '%s %s\n' "$name" "$said"
done
echo "[end 0]"
"""
)


@dataclass(frozen=True)
class SchedulerSnapshot:
    """What the scheduler said of our jobs, and which of its two voices spoke.

    ``unaccounted``: the site has no accounting, so what has left the queue is forgotten for good.
    """

    jobs: tuple[JobStatus, ...]
    queue: bool
    accounting: bool
    errors: str = ""
    unaccounted: bool = False
    progress: Mapping[str, str] = field(default_factory=dict)

    def by_name(self, names: Sequence[str]) -> dict[str, list[JobStatus]]:
        """The statuses of each name, array tasks in order; an empty list for a job that nobody knows."""
        found: dict[str, list[JobStatus]] = {name: [] for name in names}
        for job in self.jobs:
            if job.name in found:
                found[job.name].append(replace(job, progress=self.progress.get(job.name)))
        return found

    def unrecoverable(self, name: str) -> JobStatus | None:
        """What is to be said of a job of which there is no row, if nothing will ever be said of it again."""
        if not (self.queue and self.unaccounted):
            return None
        reason = "the queue has forgotten it, and there is no accounting on this cluster"
        return JobStatus(name=name, job_id=-1, state=JobState.UNKNOWN, raw_state="", reason=reason, unrecoverable=True)


def status_command(
    names: Sequence[str], since: datetime, job_ids: Sequence[int] = (), data_folder: str = ""
) -> list[str]:
    """One remote execution that asks for all jobs of these names.

    Parameters
    ----------
    names
        Attempt ids, as given to ``sbatch --job-name``.
    since
        Earliest submit time of any of them, with its zone.
    job_ids
        Ids where they are known: accounting then also finds jobs that were never eligible.
    data_folder
        Where the runs' folders are, to read how far each running job says it is.
    """
    _checked(names)
    listed = ",".join(names)
    start = (since.astimezone(UTC) - _CLOCK_SLACK).strftime("%Y-%m-%dT%H:%M:%S")
    ids = ",".join(str(one) for one in job_ids)
    return ["sh", "-c", _ASK, "status", listed if len(listed) <= _MOST_NAME_BYTES else "", start, ids, data_folder]


_NO_ACCOUNTING = re.compile(r"accounting storage is disabled", re.IGNORECASE)
_PROGRESS = re.compile(r"^(\S+) (\d{1,3}(?:\.\d*)?)\s*%?\s*$", re.MULTILINE)
_SECTION = re.compile(r"\[(squeue|sacct|progress)\]\n(.*?)^\[end (\d+)\]$", re.DOTALL | re.MULTILINE)


def parse_status(text: str) -> SchedulerSnapshot:
    """Merge what squeue and sacct said: the queue wins while a job is in it, accounting adds how it ended."""
    queued: dict[tuple[int, int | None], JobStatus] = {}
    accounted: dict[tuple[int, int | None], JobStatus] = {}
    spoke = {"squeue": False, "sacct": False}
    complaints: list[str] = []
    progress: dict[str, str] = {}
    for voice, body, code in _SECTION.findall(text):
        if voice == "progress":
            progress = {name: f"{min(int(float(number)), 100)}%" for name, number in _PROGRESS.findall(body)}
            continue
        if code != "0":
            complaints += [line for line in body.splitlines() if line.strip()]
            continue
        spoke[voice] = True
        if voice == "squeue":
            queued.update(((job.job_id, job.task), job) for job in _queue_rows(body))
        else:
            _account(body, accounted)
    _share_out(queued, accounted)
    merged = [
        _merged(queued.get(key), accounted.get(key), spoke["squeue"])
        for key in sorted({*queued, *accounted}, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    ]
    text = "\n".join(complaints)
    return SchedulerSnapshot(
        _newest(merged), spoke["squeue"], spoke["sacct"], text, bool(_NO_ACCOUNTING.search(text)), progress
    )


def cancel_command(names: Sequence[str]) -> list[str]:
    """Cancel the user's own jobs of these names, arrays as a whole. One that has ended, or never was, is fine."""
    _checked(names)
    program = _ENVIRONMENT + 'worst=0; for name do scancel -u "$user" --name="$name" || worst=$?; done; exit "$worst"'
    return ["sh", "-c", program, "cancel", *names]


#: $1 a job's name, then its tasks: first all in one list, and one by one only where some have ended.
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
    """Let tasks of an array that was submitted with ``hold`` begin. One that has begun, or has ended, is fine."""
    _checked([name])
    listed = sorted(set(tasks))
    return ["sh", "-c", _RELEASE, "release", name, array_expression(listed), *map(str, listed)]


# -- the site's limits -------------------------------------------------------------------------------------------------


def limits_command() -> list[str]:
    """What the controller is configured with; read by `parse_limits`."""
    return ["scontrol", "show", "config"]


def parse_limits(text: str) -> Limits | None:
    """The limits in ``scontrol show config``, SLURM's own where it does not say; None when the answer is none."""
    said = {
        key.strip(): value.strip() for key, bar, value in (line.partition("=") for line in text.splitlines()) if bar
    }
    if "SLURM_VERSION" not in said and "MaxArraySize" not in said:
        return None
    parameters = dict(item.partition("=")[::2] for item in said.get("SchedulerParameters", "").split(","))
    default = Limits()

    def number(text: str, otherwise: int) -> int:
        found = re.match(r"\d+", text)  # "300 sec"
        return int(found[0]) if found else otherwise

    return Limits(
        max_array_size=number(said.get("MaxArraySize", ""), default.max_array_size),
        max_array_tasks=number(parameters.get("max_array_tasks", ""), default.max_array_tasks),
        max_job_count=number(said.get("MaxJobCount", ""), default.max_job_count),
        min_job_age_seconds=number(said.get("MinJobAge", ""), default.min_job_age_seconds),
        version=said.get("SLURM_VERSION", ""),
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def _checked(names: Sequence[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a job name of ours")


def _queue_rows(body: str) -> Iterator[JobStatus]:
    for line in body.splitlines():
        columns = line.split("|", 7)
        if len(columns) != 8 or not columns[0].isdigit():
            continue  # a warning between the rows
        job_id, tasks, word, submitted, elapsed, node, reason, name = columns
        spent = words.duration(elapsed)
        status = JobStatus(
            name=name.rstrip(),
            job_id=int(job_id),
            state=state_of(word),
            raw_state=word,
            reason=words.blank_to_empty(reason),
            node=words.blank_to_empty(node),
            submitted=words.parse_time(submitted),
            elapsed_seconds=None if spent is None else int(spent),
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
        """Whether it is what a refused submission leaves."""
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
    """Read accounting's rows: a job's own first, then its steps, of which only the memory is of interest."""
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


def _share_out(queued: dict[tuple[int, int | None], JobStatus], accounted: Iterable[tuple[int, int | None]]) -> None:
    """Let an array's one row in the queue, without a task, speak for those of its tasks that only accounting names.

    The row itself stays, for tasks that accounting does not name yet (`scheduler.by_task`).
    """
    whole = {job_id: status for (job_id, task), status in queued.items() if task is None}
    for job_id, task in accounted:
        if task is not None and job_id in whole:
            queued.setdefault((job_id, task), replace(whole[job_id], task=task))


def _merged(queued: JobStatus | None, accounted: JobStatus | None, queue_spoke: bool) -> JobStatus:
    if queued is None:
        assert accounted is not None
        if queue_spoke and not accounted.state.is_terminal:
            return replace(
                accounted, state=JobState.UNKNOWN, reason="left the queue; accounting does not say yet how it ended"
            )
        return accounted
    if accounted is None or not queued.state.is_terminal or accounted.state is not queued.state:
        return queued
    node = queued.node or accounted.node
    return replace(accounted, name=queued.name, reason=queued.reason, node=node, in_queue=True)


def _newest(jobs: list[JobStatus]) -> tuple[JobStatus, ...]:
    """Of several jobs with one name, the one that was submitted last; refused submissions are none at all."""
    real = [job for job in jobs if not (job.state is JobState.FAILED and job.reason == "BadConstraints")]
    newest: dict[str, tuple[datetime, int]] = {}
    for job in real:
        age = (job.submitted or datetime.min.replace(tzinfo=UTC), job.job_id)
        newest[job.name] = max(newest.get(job.name, age), age)
    return tuple(job for job in real if newest[job.name][1] == job.job_id)
