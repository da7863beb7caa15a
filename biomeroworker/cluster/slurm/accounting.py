"""Build the `sacct` call for what jobs requested and used, and parse its answer. Pure.

Observed with 22.05, and described in sacct(1) of later versions:

* Memory is in the rows of steps (``.batch``, ``.extern``, ``.0``) only, in the row of the job never.
* The memory in AllocTRES is that of all nodes; ReqMem has had a suffix until 21.08 (``4Gn``, ``4Gc``), and is ``16?``
  for some seconds after the end of a job.
* A job id may have been another job's before the controller was reset: the name shows whose row it is.
* A time limit may be a word (``UNLIMITED``, ``Partition_Limit``).
* The use of GPUs (``gres/gpuutil``) is recorded only where the site configured it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from biomeroworker.cluster.slurm import parsing as words
from biomeroworker.domain.job_statistics import JobStatistics, of_array

_COLUMNS = (
    "JobID", "State", "Partition", "NodeList", "NNodes", "ElapsedRaw", "TimelimitRaw", "AllocCPUS", "CPUTimeRAW",
    "TotalCPU", "ReqMem", "MaxRSS", "AllocTRES", "TRESUsageInAve", "JobName",
)  # fmt: skip
_JOB_ID = re.compile(r"(\d+)(?:\+\d+)?(?:_(\d+|\[[^\]]*\]))?(\..+)?")


def statistics_command(job_ids: list[int]) -> list[str]:
    """One call for all jobs of a run."""
    if not job_ids:
        raise ValueError("without a job id, sacct lists all jobs of the day")
    listed = ",".join(map(str, job_ids))
    program = (
        "unset $(env | sed -n 's/^\\(SACCT_[A-Z0-9_]*\\)=.*/\\1/p') SLURM_TIME_FORMAT\n"
        'export TZ=UTC LC_ALL=C; exec sacct -n -P -j "$1" -o "$2"'
    )
    return ["sh", "-c", program, "statistics", listed, ",".join(_COLUMNS)]


def parse_statistics(text: str, names: Mapping[int, str]) -> dict[int, JobStatistics]:
    """The statistics of each job whose end accounting has recorded.

    Parameters
    ----------
    names
        The job's name by its id; rows of other jobs are ignored.
    """
    found: dict[int, dict[str, JobStatistics]] = {}
    for line in text.splitlines():
        columns = line.split("|", len(_COLUMNS) - 1)
        match = _JOB_ID.fullmatch(columns[0])
        if len(columns) != len(_COLUMNS) or not match or int(match[1]) not in names:
            continue
        row = dict(zip(_COLUMNS, columns, strict=True))
        job_id, task = int(match[1]), match[2] or ""
        tasks = found.setdefault(job_id, {})
        if match[3]:
            if task in tasks:
                tasks[task] = _with_step(tasks[task], row)
        elif _has_ended(row, names[job_id]) and not task.startswith("["):  # [2,5]: tasks that never started
            tasks[task] = _of_job(job_id, row)
        else:
            tasks.pop(task, None)
    return {
        job_id: tasks[""] if list(tasks) == [""] else of_array(tasks.values())
        for job_id, tasks in found.items()
        if tasks
    }


def _has_ended(row: Mapping[str, str], name: str) -> bool:
    """Whether it is the row of the job with this name, and of its end: accounting may lag for some seconds."""
    return row["JobName"].rstrip() == name and words.state_of(row["State"]).is_terminal


def _of_job(job_id: int, row: Mapping[str, str]) -> JobStatistics:
    cpus = words.count(row["AllocCPUS"])
    return JobStatistics(
        job_id=job_id,
        state=row["State"].split(" ")[0],
        partition=row["Partition"].strip(),
        node=words.blank_to_empty(row["NodeList"]),
        elapsed_seconds=words.count(row["ElapsedRaw"]),
        time_limit_seconds=_minutes(row["TimelimitRaw"]),
        cpus=cpus,
        cpu_seconds=words.duration(row["TotalCPU"]),
        allocated_cpu_seconds=words.count(row["CPUTimeRAW"]),
        requested_memory_bytes=_memory(row, cpus or 1),
        gpus=words.gpus_of(row["AllocTRES"]),
    )


def _with_step(job: JobStatistics, row: Mapping[str, str]) -> JobStatistics:
    """The statistics of a job with one more of its steps."""
    memory = [size for size in (job.max_rss_bytes, words.size(row["MaxRSS"])) if size]  # 0: the step was too short
    percent = [one for one in (job.gpu_percent, _gpu_percent(row["TRESUsageInAve"])) if one is not None]
    return replace(job, max_rss_bytes=max(memory, default=None), gpu_percent=max(percent, default=None))


def _minutes(text: str) -> int | None:
    minutes = words.count(text)
    return None if minutes is None else 60 * minutes


def _memory(row: Mapping[str, str], cpus: int) -> int | None:
    """The requested memory of one node, in bytes."""
    nodes = words.count(row["NNodes"]) or 1
    allocated = words.size(_tres(row["AllocTRES"]).get("mem", ""))
    if allocated:
        return allocated // nodes
    requested = words.size(row["ReqMem"])
    if requested and row["ReqMem"].strip().endswith("c"):
        return requested * cpus // nodes
    return requested or None


def _gpu_percent(usage: str) -> float | None:
    found = words.count(_tres(usage).get("gres/gpuutil", ""))
    return None if found is None else float(found)


def _tres(text: str) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in text.strip().split(",") if "=" in item)
