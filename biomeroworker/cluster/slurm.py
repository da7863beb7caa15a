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
* squeue cuts the list of an array's waiting tasks at 64 bytes unless ``SLURM_BITSTR_LEN`` is 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from biomeroworker.cluster.scheduler import JobSpec, JobState, JobStatus
from biomeroworker.errors import Permanent

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")
#: Longer lists of names do not fit into one argument (128 KiB, execve(2)); then all of the user's jobs are asked for.
_MOST_NAMES = 60_000
#: How far the clocks of worker and cluster may be apart.
_CLOCK_SLACK = timedelta(hours=1)

#: State words of squeue(1) and sacct(1), JOB STATE CODES. A word that is not here is UNKNOWN.
STATES: Mapping[str, JobState] = {
    "PENDING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "EXPEDITING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "CONFIGURING": JobState.RUNNING,
    "POWER_UP_NODE": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "UPDATE_DB": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "TIMEOUT": JobState.TIMEOUT,
    "DEADLINE": JobState.TIMEOUT,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "NODE_FAIL": JobState.NODE_FAIL,
    "BOOT_FAIL": JobState.NODE_FAIL,
    "PREEMPTED": JobState.PREEMPTED,
}


def state_of(word: str) -> JobState:
    """The state that a word of SLURM's means: ``CANCELLED by 2001`` and ``COMPLETED+`` too; UNKNOWN if it is new."""
    words = word.split()
    return STATES.get(words[0].rstrip("+").upper(), JobState.UNKNOWN) if words else JobState.UNKNOWN


# -- submit ------------------------------------------------------------------------------------------------------------


def submit_command(job: JobSpec) -> list[str]:
    """The `sbatch` call for a job; the options' order does not matter, as none is given twice."""
    _checked([job.name])
    argv = ["sbatch", "--parsable", f"--job-name={job.name}", f"--output={job.stdout}", f"--chdir={job.workdir}"]
    if job.array:
        argv.append(f"--array={job.array}")
    for option, value in job.options.items():
        if not _OPTION.fullmatch(option):
            raise Permanent(f"{option!r} is not an option of sbatch", hint=f"check sbatch_{option} and job options")
        argv.append(f"--{option}={value}" if value else f"--{option}")
    if job.script.startswith("-"):
        raise Permanent(f"{job.script!r} cannot be submitted: it looks like an option")
    return [*argv, job.script, *job.arguments]


_PARSABLE = re.compile(r"^(\d+)(?:;[^\s;]+)?\s*$", re.MULTILINE)
_SENTENCE = re.compile(r"^Submitted batch job (\d+)\b", re.MULTILINE)


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

#: $1 names, comma-separated (may be empty: all), $2 since, $3 job ids, comma-separated (may be empty).
_ASK = (
    _ENVIRONMENT
    + r"""
rows=JobID,Submit,ElapsedRaw,ExitCode,MaxRSS,NodeList,State,Reason,JobName
echo '[squeue]'; squeue -h -u "$user" -t all ${1:+--name="$1"} -o '%F|%K|%T|%V|%M|%N|%r|%j' 2>&1; echo "[end $?]"
echo '[sacct]'; sacct -n -P -u "$user" -S "$2" -E now+3650days ${1:+--name="$1"} -o "$rows" 2>&1; echo "[end $?]"
[ -z "$3" ] || { echo '[sacct]'; sacct -n -P -j "$3" -o "$rows" 2>&1; echo "[end $?]"; }
"""
)


@dataclass(frozen=True)
class Answer:
    """What the scheduler said of our jobs, and which of its two voices spoke."""

    jobs: tuple[JobStatus, ...]
    queue: bool
    accounting: bool
    complaints: str = ""

    def by_name(self, names: Sequence[str]) -> dict[str, list[JobStatus]]:
        """The statuses of each name, array tasks in order; an empty list for a job that nobody knows."""
        found: dict[str, list[JobStatus]] = {name: [] for name in names}
        for job in self.jobs:
            if job.name in found:
                found[job.name].append(job)
        return found


def status_command(names: Sequence[str], since: datetime, job_ids: Sequence[int] = ()) -> list[str]:
    """One remote execution that asks for all jobs of these names.

    Parameters
    ----------
    names
        Attempt ids, as given to ``sbatch --job-name``.
    since
        Earliest submit time of any of them, with its zone.
    job_ids
        Ids where they are known: accounting then also finds jobs that were never eligible.
    """
    _checked(names)
    listed = ",".join(names)
    start = (since.astimezone(UTC) - _CLOCK_SLACK).strftime("%Y-%m-%dT%H:%M:%S")
    ids = ",".join(str(one) for one in job_ids)
    return ["sh", "-c", _ASK, "status", listed if len(listed) <= _MOST_NAMES else "", start, ids]


_SECTION = re.compile(r"\[(squeue|sacct)\]\n(.*?)^\[end (\d+)\]$", re.DOTALL | re.MULTILINE)


def parse_status(text: str) -> Answer:
    """Merge what squeue and sacct said: the queue wins while a job is in it, accounting adds how it ended."""
    queued: dict[tuple[int, int | None], JobStatus] = {}
    accounted: dict[tuple[int, int | None], JobStatus] = {}
    spoke = {"squeue": False, "sacct": False}
    complaints: list[str] = []
    for voice, body, code in _SECTION.findall(text):
        if code != "0":
            complaints += [line for line in body.splitlines() if line.strip()]
            continue
        spoke[voice] = True
        if voice == "squeue":
            queued.update(((job.job_id, job.task), job) for job in _queue_rows(body))
        else:
            _account(body, accounted)
    merged = [
        _merged(queued.get(key), accounted.get(key), spoke["squeue"])
        for key in sorted({*queued, *accounted}, key=lambda key: (key[0], -1 if key[1] is None else key[1]))
    ]
    return Answer(_newest(merged), spoke["squeue"], spoke["sacct"], "\n".join(complaints))


def find_command(name: str, since: datetime) -> list[str]:
    """Look for a job that may or may not have been submitted; read by `parse_found`."""
    return status_command([name], since)


def parse_found(text: str, name: str) -> JobStatus | None:
    """The job of that name, alive or ended, if there ever was one. A refused submission was none.

    Only both voices together can say that there is no job; the caller checks `Answer.queue` and `Answer.accounting`.
    """
    jobs = [job for job in parse_status(text).jobs if job.name == name]
    return jobs[-1] if jobs else None


def cancel_command(names: Sequence[str]) -> list[str]:
    """Cancel the user's own jobs of these names. One that has ended, or never was, is fine."""
    _checked(names)
    program = _ENVIRONMENT + 'worst=0; for name do scancel -u "$user" --name="$name" || worst=$?; done; exit "$worst"'
    return ["sh", "-c", program, "cancel", *names]


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
        status = JobStatus(
            name=name.rstrip(),
            job_id=int(job_id),
            state=state_of(word),
            raw_state=word,
            reason=_said(reason),
            node=_said(node),
            submitted=_time(submitted),
            elapsed_seconds=_duration(elapsed),
            in_queue=True,
        )
        for task in _tasks(tasks):
            yield replace(status, task=task)


def _tasks(expression: str) -> Iterator[int | None]:
    """The tasks of one queue entry: ``N/A`` (no array), ``4``, or the waiting ones as ``0,5-7:2%2``."""
    listed = expression.strip("[]").partition("%")[0]
    numbers: list[int | None] = []
    for part in listed.split(","):
        first_last, _, step = part.partition(":")
        first, _, last = first_last.partition("-")
        if first.isdigit():
            numbers += range(int(first), int(last if last.isdigit() else first) + 1, int(step) if step.isdigit() else 1)
    yield from numbers or [None]


_JOB_ID = re.compile(r"(\d+)(?:\+\d+)?(?:_(\d+|\[[^\]]*\]))?(\..+)?")


def _account(body: str, into: dict[tuple[int, int | None], JobStatus]) -> None:
    """Read accounting's rows: a job's own first, then its steps, of which only the memory is of interest."""
    for line in body.splitlines():
        columns = line.split("|", 8)
        match = _JOB_ID.fullmatch(columns[0])
        if len(columns) != 9 or not match:
            continue
        _, submitted, elapsed, exit_code, memory, node, word, reason, name = columns
        job_id = int(match[1])
        for task in _tasks(match[2] or ""):
            key = (job_id, task)
            if match[3]:
                if key in into:
                    peak = max(into[key].max_rss_bytes or 0, _bytes(memory) or 0)
                    into[key] = replace(into[key], max_rss_bytes=peak or None)
                continue
            code, signal = _exit(exit_code)
            if key in into and into[key].name != name.rstrip():
                continue  # asked for by its id, which was another job's before the controller was reset
            never_ran = word.startswith("FAILED") and node == "None assigned" and elapsed == "0"
            if never_ran:
                into.pop(key, None)
                continue
            into[key] = JobStatus(
                name=name.rstrip(),
                job_id=job_id,
                state=state_of(word),
                raw_state=word,
                task=task,
                reason=_said(reason),
                exit_code=code,
                signal=signal,
                node="" if node == "None assigned" else _said(node),
                submitted=_time(submitted),
                elapsed_seconds=int(elapsed) if elapsed.isdigit() else None,
            )


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
    return replace(
        queued,
        raw_state=accounted.raw_state,
        exit_code=accounted.exit_code,
        signal=accounted.signal,
        node=queued.node or accounted.node,
        elapsed_seconds=accounted.elapsed_seconds,
        max_rss_bytes=accounted.max_rss_bytes,
    )


def _newest(jobs: list[JobStatus]) -> tuple[JobStatus, ...]:
    """Of several jobs with one name, the one that was submitted last; refused submissions are none at all."""
    real = [job for job in jobs if not (job.state is JobState.FAILED and job.reason == "BadConstraints")]
    newest: dict[str, tuple[datetime, int]] = {}
    for job in real:
        age = (job.submitted or datetime.min.replace(tzinfo=UTC), job.job_id)
        newest[job.name] = max(newest.get(job.name, age), age)
    return tuple(job for job in real if newest[job.name][1] == job.job_id)


def _said(text: str) -> str:
    return "" if text.strip() in ("None", "(null)", "N/A", "") else text.strip()


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        return None


def _duration(text: str) -> int | None:
    """Seconds in squeue's ``[days-][hours:]minutes:seconds``."""
    days, _, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (days and not days.isdigit()):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def _exit(text: str) -> tuple[int | None, int | None]:
    code, _, signal = text.partition(":")
    return (int(code) if code.isdigit() else None, int(signal) if signal.isdigit() and signal != "0" else None)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def _bytes(text: str) -> int | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)[nc]?", text.strip())
    return int(float(match[1]) * _UNITS[match[2]]) if match else None
