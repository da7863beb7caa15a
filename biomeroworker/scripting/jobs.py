"""Jobs by their SLURM ids: how they are, where they work, what they print; and one more on data that is there.

A run that `SlurmClient.submit` accepts is carried to its end by a supervisor. `run_workflow` is for who wants to hold
the reins: it submits one job on a folder that lies on the cluster already, and leaves the rest to the caller.
"""

from __future__ import annotations

import posixpath
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fabric.transfer
from invoke import Result

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.parsing import state_of
from biomeroworker.cluster.slurm.scheduler import JobState
from biomeroworker.cluster.slurm.submit_errors import scheduler_silence
from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine import job
from biomeroworker.errors import Refused
from biomeroworker.scripting.parts import Parts, asked, data_folder, moved, result
from biomeroworker.scripting.slurmjob import SlurmJob
from biomeroworker.workflows.parameters import Folders, arguments, validate

#: Asks of ids, given with commas.
_ASK = r"""
unset $(env | sed -n 's/^\(S\(QUEUE\|ACCT\)_[A-Z0-9_]*\)=.*/\1/p')
squeue -h -j "$1" -t all -o '%F_%K|%T' 2>/dev/null; queue=$?
sacct -n -P -X -j "$1" -o JobID,State || [ "$queue" -eq 0 ]
"""
#: $1 the job's id. Its working folder: the controller's word while it has one, else accounting's.
_WHERE = r"""
found=$(scontrol show job "$1" 2>/dev/null | sed -n 's/^ *WorkDir=//p' | head -n 1)
[ -n "$found" ] || found=$(sacct -n -P -X -j "$1" -o WorkDir | head -n 1)
printf '%s\n' "$found"
"""
#: $1 the folder of the data, $2 the number of sbatch's options, then these. On standard input: the job's words.
_SUBMIT = r"""
set -e
cd -- "$1" && [ -d data/in ] || { echo "there is no data/in in $1" >&2; exit 66; }
mkdir -p data/out data/gt ".biomero-$2"
cat >".biomero-$2/words"
printf '%s' "$3" >".biomero-$2/job.sh"
name=$2; shift 3
own=$PWD/.biomero-$name
exec sbatch --parsable --chdir="$PWD" --output="$PWD/omero-%j.log" "$@" "$own/job.sh" "$own/words"
"""
_JOB = r"""#!/bin/bash
words=(); while IFS= read -r -d '' word; do words+=("$word"); done <"$1"
"${words[@]}"; code=$?
[ "$code" -ne 0 ] || [ -n "$(ls -A data/out)" ] || { echo "Workflow completed without producing files"; code=2; }
exit "$code"
"""
_ALL_STATES = "bf,ca,cd,dl,f,nf,oom,pd,pr,r,to"
#: Of several tasks of an array the job as a whole is what comes first here.
_FIRST = (JobState.PENDING, JobState.RUNNING)


class JobMethods(Parts):
    """Part of `SlurmClient`."""

    def run_workflow(
        self,
        workflow_name: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        wf_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> tuple[Result, int, uuid.UUID, uuid.UUID]:
        """Submit one job of a workflow on ``<data folder>/<input_data>/data/in``.

        Images must be there in the format that the workflow reads. The log gets a task with the job's id.

        Parameters
        ----------
        kwargs
            The workflow's parameters by id; ``use_gpu`` where the site lets a run choose.

        Returns
        -------
        sbatch's answer, the job's id, the ids of the workflow and the task in the log

        Raises
        ------
        Refused
            A wrong parameter, no such data, or sbatch refuses: then the task is recorded as failed.
        """
        cluster = self._cluster_of(workflow_name)
        settings = self.settings.on(self.settings.workflows[workflow_name].cluster)
        workflow = self.catalogue.get(workflow_name)
        request = RunRequest(
            workflow=workflow_name, version=workflow_version, source="folder", inputs={}, email=email or "",
            job_options={"time": time} if time else {}, use_gpu=kwargs.pop("use_gpu", None),
        )  # fmt: skip
        job.check(settings, request)
        values = validate(workflow, kwargs)
        folder = data_folder(cluster, input_data)
        image = cluster.image(settings.workflows[workflow_name].path, workflow.container_image, workflow_version)
        gpu = job.uses_gpu(settings, request)
        called = cluster.runtime.exec_prefix if workflow.command else cluster.runtime.run_prefix
        inside = Folders(input=f"{folder}/data/in", output=f"{folder}/data/out", ground_truth=f"{folder}/data/gt")
        words = [
            *called(image.path, binds=cluster.binds(folder), gpu=gpu),
            *workflow.command,
            *arguments(workflow, values, inside),
        ]
        tracker = self.log.tracker
        if wf_id is None:
            wf_id = tracker.initiate_workflow(workflow_name, f"{workflow_name} {workflow_version}".strip(), -1, -1)
        task = tracker.add_task_to_workflow(wf_id, workflow_name, image.version, input_data, values)
        options = {"job-name": f"omero-job-{workflow_name}", **job.options(settings, request)}
        answer, job_id = handed_in(self, cluster, folder, task, _JOB, words, options)
        return answer, job_id, wf_id, task

    def run_workflow_job(
        self,
        workflow_name: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        wf_id: uuid.UUID | None = None,
        **kwargs: Any,
    ) -> SlurmJob:
        """The same, as a `SlurmJob` that can be waited for."""
        answer, job_id, run, task = self.run_workflow(
            workflow_name, workflow_version, input_data, email, time, wf_id, **kwargs
        )
        return SlurmJob(answer, job_id, run, task)

    def extract_job_id(self, result: Result) -> int:
        """The job's id in sbatch's answer; -1 if there is none."""
        found = commands.parse_submitted(result.stdout)
        return -1 if found is None else found

    def check_job_status(
        self, slurm_job_ids: Sequence[int], env: dict[str, str] | None = None
    ) -> tuple[dict[int, str], Result]:
        """SLURM's word for each job (``COMPLETED``, ``RUNNING``, …), and the whole answer. ``env`` is not needed.

        An array is PENDING or RUNNING while one of its tasks is, and COMPLETED only if all are. A job that neither
        queue nor accounting knows is UNKNOWN.
        """
        ids = [int(one) for one in slurm_job_ids]
        found = dict.fromkeys(ids, "UNKNOWN")
        answers = []
        for cluster, some in self._by_cluster(ids):
            answer = cluster.transport.run(["sh", "-c", _ASK, "ask", ",".join(map(str, some))], timeout=60)
            if not answer.ok:
                raise scheduler_silence(f"asking about {len(some)} jobs", answer.stderr)
            answers.append(result(answer))
            found.update(read_states(answer.stdout, some))
        return found, answers[-1] if answers else Result(exited=0)

    def list_active_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's jobs that wait or run, newest first."""
        return self._listed(["squeue", "-h", "--me", "-o", "%A"])

    def list_completed_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's jobs that ended well since ``sacct_start_time``, newest first."""
        return self._listed(sacct(self.settings.main, "cd"))

    def list_all_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of all the account's jobs since ``sacct_start_time``, newest first."""
        return self._listed(sacct(self.settings.main, _ALL_STATES))

    def get_active_job_progress(
        self, slurm_job_id: int | str, pattern: str = r"\d+%", env: dict[str, str] | None = None
    ) -> str | None:
        """The last text like ``pattern`` at the end of a job's log; None if there is none, or no log yet."""
        try:
            text = self._log_of(slurm_job_id, tail=True)
        except (Refused, FileNotFoundError):
            return None
        found = [match.group() for match in re.finditer(pattern, text.decode(errors="replace"))]
        return found[-1] if found else None

    def get_logfile_from_slurm(
        self,
        slurm_job_id: int | str,
        local_tmp_storage: str = "/tmp/",  # noqa: S108
        logfile: str | None = None,
    ) -> tuple[str, str, fabric.transfer.Result]:
        """Copy a job's log here: the folder, the file's path, and the transfer."""
        name = posixpath.basename(logfile or f"omero-{int(slurm_job_id)}.log")
        target = Path(local_tmp_storage) / name
        target.write_bytes(self._log_of(slurm_job_id))
        return local_tmp_storage, str(target), moved(str(target), name, self)

    def extract_data_location_from_log(self, slurm_job_id: int | str | None = None, logfile: str | None = None) -> str:
        """The folder of a job's data. SLURM knows it: no log is read, which anybody's program writes into."""
        if slurm_job_id is None:
            numbers = re.findall(r"\d+", posixpath.basename(logfile or ""))
            if not numbers:
                raise Refused("a job's id is needed, or a log's name that holds it")
            slurm_job_id = numbers[0]
        cluster = self._on.get(int(slurm_job_id), self.cluster)
        found = asked(cluster, ["sh", "-c", _WHERE, "where", str(int(slurm_job_id))], "asking SLURM").stdout.strip()
        if not found:
            raise Refused(f"SLURM does not know job {slurm_job_id} any more")
        return str(found)

    def cleanup_tmp_files(
        self,
        slurm_job_id: int | str,
        filename: str | None = None,
        data_location: str | None = None,
        logfile: str | None = None,
    ) -> Result:
        """Remove a job's data, log and zip; nothing outside the data folder, and nothing of a run that is carried."""
        cluster = self._on.get(int(slurm_job_id), self.cluster)
        folder = data_folder(cluster, data_location or self.extract_data_location_from_log(slurm_job_id))
        first = posixpath.relpath(folder, cluster.layout.data).partition("/")[0]
        if first.startswith("biomero_"):
            raise Refused(
                f"{folder} is a run's: the supervisor removes it when its time has come ([WORKER] retention_days)"
            )
        paths = [folder, f"{folder}.zip", *([data_folder(cluster, f"{filename}.zip")] if filename else [])]
        if logfile:
            paths.append(data_folder(cluster, logfile if "/" in logfile else posixpath.join(folder, logfile)))
        return asked(cluster, ["rm", "-rf", "--", *dict.fromkeys(paths)], "removing", timeout=300)

    # -- helpers ------------------------------------------------------------------------------------------------------

    @property
    def _on(self) -> dict[int, Cluster]:
        return jobs_on(self)

    def _cluster_of(self, workflow: str) -> Cluster:
        self.catalogue.get(workflow)
        return self.clusters[self.settings.workflows[workflow].cluster]

    def _by_cluster(self, ids: Sequence[int]) -> Iterable[tuple[Cluster, list[int]]]:
        found: dict[int, tuple[Cluster, list[int]]] = {}
        for one in ids:
            cluster = self._on.get(one, self.cluster)
            found.setdefault(id(cluster), (cluster, []))[1].append(one)
        return found.values()

    def _listed(self, argv: Sequence[str]) -> list[str]:
        answer = asked(self.cluster, argv, "asking SLURM")
        return sorted({line.strip() for line in answer.stdout.split() if line.strip().isdigit()}, key=int, reverse=True)

    def _log_of(self, job_id: int | str, *, tail: bool = False) -> bytes:
        cluster = self._on.get(int(job_id), self.cluster)
        folder = self.extract_data_location_from_log(job_id)
        names = [f"omero-{int(job_id)}.log", "container.out", "slurm.out"]
        program = 'cd -- "$1" && shift || exit; for n do [ -e "$n" ] && { cat -- "$n"; exit; }; done; exit 66'
        program = program.replace("cat --", "tail -n 20 --") if tail else program
        answer = cluster.transport.run(["sh", "-c", program, "log", folder, *names], timeout=300)
        if not answer.ok:
            raise FileNotFoundError(f"job {job_id} has no log in {folder}")
        return answer.stdout.encode()


def handed_in(
    client: Parts, cluster: Cluster, folder: str, task: uuid.UUID, script: str, words: Sequence[str],
    options: Mapping[str, str],
) -> tuple[Result, int]:  # fmt: skip
    """Submit a job that starts these words in a folder of data; the log's task knows what became of that."""
    tracker = client.log.tracker
    named = {**options, "job-name": re.sub(r"[^A-Za-z0-9._-]", "_", options["job-name"])}
    flags = [f"--{flag}={value}" if value else f"--{flag}" for flag, value in named.items()]
    command = ["sh", "-c", _SUBMIT, "submit", folder, str(task), script, *flags]
    try:
        answer = asked(
            cluster, command, "submitting", timeout=90, stdin=b"".join(word.encode() + b"\0" for word in words)
        )
        job_id = commands.parse_submitted(answer.stdout)
        if job_id is None:
            raise Refused(f"sbatch gave no job id: {answer.stdout.strip()}")
    except Exception as error:
        tracker.fail_task(task, str(error))
        raise
    tracker.start_task(task)
    tracker.add_job_id(task, job_id)
    tracker.add_result(task, answer)
    jobs_on(client)[job_id] = cluster
    return answer, job_id


def jobs_on(client: Parts) -> dict[int, Cluster]:
    """On which cluster the jobs are that this client submitted; those of others are looked for on the first."""
    found: dict[int, Cluster] = client.__dict__.setdefault("_jobs_on", {})
    return found


def read_states(text: str, ids: Sequence[int]) -> dict[int, str]:
    """SLURM's word for each job in lines of ``id|state``, the queue's before accounting's. Pure."""
    words: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        name, _, state = line.partition("|")
        number = re.match(r"\d+", name)
        if number and state.strip() and int(number[0]) in ids:
            task = name.removesuffix("_N/A")
            words.setdefault(int(number[0]), {}).setdefault(task, state.split()[0].rstrip("+"))
    return {one: _whole(list(tasks.values())) for one, tasks in words.items()}


def _whole(words: Sequence[str]) -> str:
    states = {word: state_of(word) for word in words}
    for state in _FIRST:
        if found := [word for word, one in states.items() if one is state]:
            return found[0]
    return next((word for word, one in states.items() if one is not JobState.COMPLETED), words[0])


def sacct(settings: Settings, states: str) -> list[str]:
    """The question for the account's jobs in these states."""
    slurm_settings = settings.slurm
    since = slurm_settings.sacct_start_time
    if slurm_settings.sacct_days_ago is not None:
        since = f"now-{slurm_settings.sacct_days_ago}days"
    return ["sacct", "-n", "-X", "-P", "--starttime", since, "--endtime", "now", "--state", states, "-o", "JobIDRaw"]
