"""Jobs by their SLURM ids: state, working folder, log; and submission of a job on data that is on the cluster.

A supervisor executes a run that `SlurmClient.submit` accepts. `run_workflow` is for callers that do each step
themselves: it submits one job on a folder that exists on the cluster, and leaves the rest to the caller.
"""

from __future__ import annotations

import posixpath
import re
import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric.transfer
from invoke import Result

from biomero.compat.job_states import read_states
from biomero.compat.remote_data import copy_here, data_folder, from_home, result, run_checked, transferred
from biomeroworker import remote
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.submit_errors import scheduler_unavailable
from biomeroworker.config import SlurmSettings
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.job_scripts import JOB_SCRIPT
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.planning import job_options
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.runlog import NoSuchRun
from biomeroworker.workflows.descriptor import FOLDER_TYPES, Workflow
from biomeroworker.workflows.parameters import Folders, arguments, validate

#: $1 the ids, separated by commas. Prints the states, those of the queue before those of accounting.
_STATES = r"""
unset $(env | sed -n 's/^\(S\(QUEUE\|ACCT\)_[A-Z0-9_]*\)=.*/\1/p')
squeue -h -j "$1" -t all -o '%F_%K|%T' 2>/dev/null; queue=$?
sacct -n -P -X -j "$1" -o JobID,State || [ "$queue" -eq 0 ]
"""
#: $1 the job's id. Prints its working folder: the controller's value while it has one, else that of accounting.
_WORK_FOLDER = r"""
found=$(scontrol show job "$1" 2>/dev/null | sed -n 's/^ *WorkDir=//p' | head -n 1)
[ -n "$found" ] || found=$(sacct -n -P -X -j "$1" -o WorkDir | head -n 1)
printf '%s\n' "$found"
"""
#: $1 the folder of the data, $2 the task's id, $3 the job script, then options of sbatch; stdin: the job's argv.
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
_ALL_STATES = "bf,ca,cd,dl,f,nf,oom,pd,pr,r,to"
#: Seconds for which a job that was submitted or seen here is PENDING while SLURM does not know it.
UNKNOWN_GRACE_SECONDS = 600.0
#: $1 the folder, $2 the job's id, $3 the name of a log. Removes the logs of the job, and nothing else.
_REMOVE_LOGS = r"""
cd -- "$1" 2>/dev/null || exit 0
rm -f -- "omero-$2.log" "omero-${2}_"*.log "./$3"
"""


@dataclass(frozen=True)
class _Plan:
    """A job before it is submitted: ``words`` is the argv of its container, ``options`` are those of sbatch."""

    cluster: Cluster
    folder: str
    version: str
    values: Mapping[str, Any]
    words: Sequence[str]
    options: Mapping[str, str]


class Jobs:
    """Jobs of one deployment."""

    def __init__(self, deployment: Deployment, tracker: Callable[[], Any]) -> None:
        self._deployment = deployment
        self.tracker = tracker
        #: The cluster of each job that was submitted here; other jobs are looked for on the default cluster.
        self._cluster_of_job: dict[int, Cluster] = {}
        #: When SLURM first did not know a job that it had known, or that was submitted here; None: it is known.
        self._unknown_since: dict[int, float | None] = {}

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
        RequestRejected
            A wrong parameter, no such data, or sbatch refuses: then the task is recorded as failed.
        """
        plan = self._plan(workflow_name, workflow_version, input_data, email, time, kwargs)
        tracker = self.tracker()
        if wf_id is None:
            wf_id = tracker.initiate_workflow(workflow_name, f"{workflow_name} {workflow_version}".strip(), -1, -1)
        task = tracker.add_task_to_workflow(wf_id, workflow_name, plan.version, input_data, plan.values)
        answer, job_id = self.submit_script(plan.cluster, plan.folder, task, JOB_SCRIPT, plan.words, plan.options)
        return answer, job_id, wf_id, task

    def get_workflow_command(
        self,
        workflow: str,
        workflow_version: str,
        input_data: str,
        email: str | None = None,
        time: str | None = None,
        **kwargs: Any,
    ) -> tuple[str, dict[str, str]]:
        """The line of shell that submits the job of `run_workflow`, and an empty environment. Records nothing."""
        plan = self._plan(workflow, workflow_version, input_data, email, time, kwargs)
        words = submit_command(plan.folder, str(uuid.uuid4()), JOB_SCRIPT, plan.options)
        return f"printf '%s\\0' {shlex.join(plan.words)} | {shlex.join(words)}", {}

    def _plan(
        self, workflow_name: str, workflow_version: str, input_data: str, email: str | None, time: str | None,
        parameters: dict[str, Any],
    ) -> _Plan:  # fmt: skip
        """Everything that is decided before a job is submitted."""
        cluster = self._cluster_of(workflow_name)
        settings = self._deployment.settings
        workflow = self._deployment.catalogue.get(workflow_name)
        request = RunRequest(
            workflow=workflow_name, version=workflow_version, source="folder", inputs={}, email=email or "",
            job_options={"time": time} if time else {}, use_gpu=parameters.pop("use_gpu", None),
        )  # fmt: skip
        job_options.check(settings, request)
        folder = data_folder(cluster, input_data)
        values = validate(workflow, {**parameters, **_absolute_files(cluster, workflow, parameters)})
        image = cluster.image(settings.workflows[workflow_name].path, workflow.container_image, workflow_version)
        gpu = job_options.uses_gpu(settings, request)
        called = cluster.runtime.exec_prefix if workflow.command else cluster.runtime.run_prefix
        inside = Folders(input=f"{folder}/data/in", output=f"{folder}/data/out", ground_truth=f"{folder}/data/gt")
        words = [
            *called(image.path, binds=cluster.binds(folder), gpu=gpu),
            *workflow.command,
            *arguments(workflow, values, inside),
        ]
        options = {"job-name": f"omero-job-{workflow_name}", **job_options.options(settings, request)}
        return _Plan(cluster, folder, image.version, values, words, options)

    def extract_job_id(self, result: Result) -> int:
        """The job's id in sbatch's answer; -1 if there is none."""
        found = commands.parse_submitted(result.stdout)
        return -1 if found is None else found

    def check_job_status(
        self, slurm_job_ids: Sequence[int], env: dict[str, str] | None = None
    ) -> tuple[dict[int, str], Result]:
        """The state of each job in sacct's words (``COMPLETED``, ``RUNNING``, …), and the whole answer.

        squeue's own words are mapped: COMPLETING and CONFIGURING are RUNNING, REQUEUED is PENDING. An array is PENDING
        or RUNNING while one of its tasks is, and COMPLETED only if all are. A job that neither queue nor accounting
        knows is UNKNOWN; one that was submitted or seen here before is PENDING for the first ten minutes of that,
        because accounting lags behind the queue. The keys are the ids as they were given. ``env`` is ignored.
        """
        ids = [int(one) for one in slurm_job_ids]
        found: dict[int, str] = {}
        answers = []
        for cluster, some in self._by_cluster(ids):
            answer = cluster.transport.run(["sh", "-c", _STATES, "states", ",".join(map(str, some))], timeout=60)
            if not answer.ok:
                raise scheduler_unavailable(f"querying {len(some)} jobs", answer.stderr)
            answers.append(result(answer))
            found.update(read_states(answer.stdout, some))
        states = {given: self._state(one, found.get(one)) for given, one in zip(slurm_job_ids, ids, strict=True)}
        return states, answers[-1] if answers else Result(exited=0)

    def _state(self, job_id: int, word: str | None) -> str:
        if word is not None:
            self._unknown_since[job_id] = None
            return word
        if job_id not in self._unknown_since:
            return "UNKNOWN"
        since = self._unknown_since[job_id] = self._unknown_since[job_id] or time.monotonic()
        return "PENDING" if time.monotonic() - since < UNKNOWN_GRACE_SECONDS else "UNKNOWN"

    def list_active_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's pending and running jobs, newest first."""
        return self._list_ids(["squeue", "-h", "--me", "-o", "%A"])

    def list_completed_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of the account's completed jobs since ``sacct_start_time``, newest first."""
        return self._list_ids(sacct(self._deployment.settings.default_cluster.slurm, "cd"))

    def list_all_jobs(self, env: dict[str, str] | None = None) -> list[str]:
        """Ids of all the account's jobs since ``sacct_start_time``, newest first."""
        return self._list_ids(sacct(self._deployment.settings.default_cluster.slurm, _ALL_STATES))

    def get_active_job_progress(
        self, slurm_job_id: int | str, pattern: str = r"\d+%", env: dict[str, str] | None = None
    ) -> str | None:
        """The last match of ``pattern`` at the end of a job's log; None if there is none, or no log yet."""
        try:
            text = self._log_of(slurm_job_id, tail=True)
        except (RequestRejected, FileNotFoundError):
            return None
        found = [match.group() for match in re.finditer(pattern, text.decode(errors="replace"))]
        return found[-1] if found else None

    def get_logfile_from_slurm(
        self,
        slurm_job_id: int | str,
        local_tmp_storage: str = "/tmp/",  # noqa: S108
        logfile: str | None = None,
    ) -> tuple[str, str, fabric.transfer.Result]:
        """Copy a job's log here: the folder, the file's path, and the transfer.

        Without a job id, ``logfile`` is the path of any file on the cluster; a relative one starts at the home folder.
        """
        name = posixpath.basename(logfile or f"omero-{slurm_job_id}.log")
        target = Path(local_tmp_storage) / name
        if str(slurm_job_id or ""):
            target.write_bytes(self._log_of(slurm_job_id))
            return local_tmp_storage, str(target), transferred(str(target), name)
        if not logfile:
            raise RequestRejected("give a job's id, or the path of a log")
        copy_here(self._deployment.cluster, logfile, target)
        return local_tmp_storage, str(target), transferred(str(target), logfile)

    def extract_data_location_from_log(self, slurm_job_id: int | str | None = None, logfile: str | None = None) -> str:
        """The folder of a job's data, from SLURM itself: any program can write into a log, so none is read."""
        if slurm_job_id is None:
            numbers = re.findall(r"\d+", posixpath.basename(logfile or ""))
            if not numbers:
                raise RequestRejected("give a job's id, or the name of a log that contains it")
            slurm_job_id = numbers[0]
        cluster = self._cluster_with(slurm_job_id)
        found = run_checked(
            cluster, ["sh", "-c", _WORK_FOLDER, "where", str(int(slurm_job_id))], "querying SLURM"
        ).stdout.strip()
        if not found:
            raise RequestRejected(f"SLURM has no record of job {slurm_job_id} any more")
        return str(found)

    def cleanup_tmp_files(
        self,
        slurm_job_id: int | str,
        filename: str | None = None,
        data_location: str | None = None,
        logfile: str | None = None,
    ) -> Result:
        """Remove a job's data, log and zip. Nothing outside the data folder, and nothing of an accepted run.

        With a ``logfile`` and no ``data_location``, only the job's logs are removed, and no data.
        """
        cluster = self._cluster_with(slurm_job_id)
        if data_location is None and logfile is not None:
            return self._remove_logs(cluster, slurm_job_id, logfile)
        folder = data_folder(cluster, data_location or self.extract_data_location_from_log(slurm_job_id))
        if self._is_managed(posixpath.relpath(folder, cluster.remote_paths.data).partition("/")[0]):
            raise RequestRejected(f"{folder} belongs to a run; the supervisor removes it after [WORKER] retention_days")
        paths = [folder, f"{folder}.zip", *([data_folder(cluster, f"{filename}.zip")] if filename else [])]
        if logfile:
            paths.append(data_folder(cluster, logfile if "/" in logfile else posixpath.join(folder, logfile)))
        return run_checked(cluster, ["rm", "-rf", "--", *dict.fromkeys(paths)], "removing", timeout=300)

    def _is_managed(self, name: str) -> bool:
        """Whether a supervisor removes this folder of the data folder: that of an accepted run, or of an unknown one.

        The folders of old scripts have names of the same form, with the id of a run that they have recorded.
        """
        try:
            run_id = uuid.UUID(name.removeprefix("biomero_"))
            return name.startswith("biomero_") and self._deployment.log.run(run_id).request is not None
        except ValueError:
            return False
        except NoSuchRun:
            return True

    def _remove_logs(self, cluster: Cluster, slurm_job_id: int | str, logfile: str) -> Result:
        try:
            folder = data_folder(cluster, self.extract_data_location_from_log(slurm_job_id))
        except RequestRejected:  # SLURM does not know the job any more, so the place of its log is unknown
            return Result(exited=0)
        command = ["sh", "-c", _REMOVE_LOGS, "logs", folder, str(int(slurm_job_id)), posixpath.basename(logfile)]
        return run_checked(cluster, command, "removing logs")

    def submit_script(
        self, cluster: Cluster, folder: str, task: uuid.UUID | None, script: str, argv: Sequence[str],
        options: Mapping[str, str],
    ) -> tuple[Result, int]:  # fmt: skip
        """Submit a job that runs this argv in a folder of data; records the result in the log's task."""
        tracker = self.tracker()
        command = submit_command(folder, str(task or uuid.uuid4()), script, options)  # untracked: there is no task
        try:
            answer = run_checked(cluster, command, "submitting", timeout=90, stdin=remote.encode_words(argv))
            job_id = commands.parse_submitted(answer.stdout)
            if job_id is None:
                raise RequestRejected(f"sbatch printed no job id: {answer.stdout.strip()}")
        except Exception as error:
            tracker.fail_task(task, str(error))
            raise
        tracker.start_task(task)
        tracker.add_job_id(task, job_id)
        tracker.add_result(task, answer)
        self._cluster_of_job[job_id] = cluster
        self._unknown_since[job_id] = None
        return answer, job_id

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _cluster_with(self, job_id: int | str) -> Cluster:
        number = int(job_id) if str(job_id).strip() else -1
        return self._cluster_of_job.get(number, self._deployment.cluster)

    def _cluster_of(self, workflow: str) -> Cluster:
        self._deployment.catalogue.get(workflow)
        return self._deployment.clusters[self._deployment.settings.workflows[workflow].cluster]

    def _by_cluster(self, ids: Sequence[int]) -> Iterable[tuple[Cluster, list[int]]]:
        found: dict[int, tuple[Cluster, list[int]]] = {}
        for one in ids:
            cluster = self._cluster_with(one)
            found.setdefault(id(cluster), (cluster, []))[1].append(one)
        return found.values()

    def _list_ids(self, argv: Sequence[str]) -> list[str]:
        answer = run_checked(self._deployment.cluster, argv, "querying SLURM")
        return sorted({line.strip() for line in answer.stdout.split() if line.strip().isdigit()}, key=int, reverse=True)

    def _log_of(self, job_id: int | str, *, tail: bool = False) -> bytes:
        cluster = self._cluster_with(job_id)
        folder = self.extract_data_location_from_log(job_id)
        names = [f"omero-{int(job_id)}.log", "container.out", "slurm.out"]
        program = 'cd -- "$1" && shift || exit; for n do [ -e "$n" ] && { cat -- "$n"; exit; }; done; exit 66'
        program = program.replace("cat --", "tail -n 20 --") if tail else program
        answer = cluster.transport.run(["sh", "-c", program, "log", folder, *names], timeout=300)
        if not answer.ok:
            raise FileNotFoundError(f"job {job_id} has no log in {folder}")
        return answer.stdout.encode()


def submit_command(folder: str, name: str, script: str, options: Mapping[str, str]) -> list[str]:
    """The argv that submits a script with the argv on its standard input, in a folder of data."""
    named = {**options, "job-name": re.sub(r"[^A-Za-z0-9._-]", "_", options["job-name"])}
    flags = [f"--{flag}={value}" if value else f"--{flag}" for flag, value in named.items()]
    return ["sh", "-c", _SUBMIT, "submit", folder, name, script, *flags]


def _absolute_files(cluster: Cluster, workflow: Workflow, values: Mapping[str, Any]) -> dict[str, str]:
    """The paths among the values, from the home folder: a job starts in the folder of its data."""
    return {
        one.id: from_home(cluster, str(values[one.id]))
        for one in workflow.parameters
        if one.type in FOLDER_TYPES and values.get(one.id)
    }


def sacct(slurm_settings: SlurmSettings, states: str) -> list[str]:
    """The `sacct` command for the account's jobs in these states."""
    since = slurm_settings.sacct_start_time
    if slurm_settings.sacct_days_ago is not None:
        since = f"now-{slurm_settings.sacct_days_ago}days"
    return ["sacct", "-n", "-X", "-P", "--starttime", since, "--endtime", "now", "--state", states, "-o", "JobIDRaw"]
