"""Fetch the results of a run, or of a job that was submitted by a step of its own, to import them.

A supervisor does this for its runs. Here a user does it again, for example with other options: the folders on the
cluster exist until ``retention_days`` have passed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from biomeroworker.deployment.data_folders import MANIFEST_SECONDS, OUTPUT, DataFolders
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.domain.manifest import InputManifest, ResultFile, ResultManifest
from biomeroworker.domain.source import Provenance
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.results.task_outcomes import merge_results
from biomeroworker.engine.steps.input_manifest import read_manifest
from biomeroworker.errors import Permanent, RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows import attempt_folder, markers


@dataclass(frozen=True)
class Fetched:
    """Results on this machine. ``inputs`` is None if the cluster has no manifest of the images."""

    folder: Path
    results: ResultManifest
    provenance: Provenance
    inputs: InputManifest | None


def run_of_job(deployment: Deployment, job_id: int, requester: Requester) -> WorkflowRun | None:
    """The run of a supervisor that has this job; None if a step of its own submitted it.

    Raises
    ------
    RequestRejected
        The job belongs to another user, or the log does not know it, and the user is no administrator.
    """
    task_id = deployment.log.job_accounting.get_task_id(job_id)
    if task_id is None:
        if not requester.is_admin:
            raise RequestRejected(f"the event log does not know job {job_id}: only an administrator may use it")
        return None
    run = deployment.log.run(deployment.log.tracker.task(task_id).workflow_id)
    if not requester.may_act_on(run.user):
        raise RequestRejected(f"job {job_id} is not recorded as yours: only its user or an administrator may use it")
    return run if run.request is not None else None


def fetch_run(deployment: Deployment, run: WorkflowRun, folder: Path) -> Fetched:
    """Fetch the results of a run that is done or that failed in its import.

    Raises
    ------
    RequestRejected
        The run has no results, or its folder on the cluster was removed.
    """
    if run.state not in (RunState.DONE, RunState.FAILED) or not run.attempt:
        raise RequestRejected(f"run {run.id} has no results to fetch: its state is {run.state.value}")
    cluster = deployment.clusters[run.cluster]
    inputs = read_manifest(cluster.transport, cluster.run_folder(run.id), timeout=MANIFEST_SECONDS)
    if inputs is None:
        raise RequestRejected(
            f"the folder of run {run.id} was removed from the cluster; use Retry Run to compute its results again"
        )
    numbers = set(run.good_chunks.values()) or {run.attempt}
    for number in numbers:
        cluster.transport.fetch_tree(cluster.attempt_folder(run.id, number), folder / f"fetched-{number}")
    if run.chunks:
        tasks = {
            task: folder / f"fetched-{number}" / attempt_folder.task_name(task)
            for task, number in run.good_chunks.items()
        }
        out = folder / "results"
        results = merge_results(tasks, out, str(run.id), run.attempt)
    else:
        fetched = folder / f"fetched-{run.attempt}"
        out = fetched / attempt_folder.OUT
        files = markers.read_markers(fetched).results
        if files is None:
            raise RequestRejected(f"run {run.id} has no complete results: its job did not succeed")
        results = ResultManifest(run=str(run.id), attempt=run.attempt, files=files)
    return Fetched(out, results, ExecutionPlan.from_run(run).provenance(run), inputs)


def fetch_folder(
    deployment: Deployment, folders: DataFolders, path: str, job_id: int, workflow_id: str, folder: Path
) -> Fetched:
    """Fetch ``data/out`` of a folder on the cluster, for a job that was submitted by a step of its own.

    Parameters
    ----------
    workflow_id
        The run in the event log to which the job belongs; empty: found by the job.
    """
    out = folder / "results"
    digests = deployment.cluster.transport.fetch_tree(f"{path}/{OUTPUT}", out).digests
    names = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    if not names:
        raise Permanent(f"job {job_id} left no results in {path}/{OUTPUT}", hint="read its log with SLURM Get Update")
    files = tuple(
        ResultFile(path=name, size=(out / name).stat().st_size, sha256=digests.get(name) or _digest(out / name))
        for name in names
    )
    task_id = deployment.log.job_accounting.get_task_id(job_id)
    task = deployment.log.tracker.task(task_id) if task_id is not None else None
    run = workflow_id or (str(task.workflow_id) if task is not None else f"job-{job_id}")
    parameters = {
        str(name): value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in (task.params.items() if task is not None else ())
    }
    provenance = Provenance(
        run=run,
        attempt=1,
        workflow=task.task_name if task is not None else f"job {job_id}",
        version=task.task_version if task is not None else "",
        image="",
        image_digest="",
        parameters=dict(parameters),
        job_id=job_id,
    )
    return Fetched(out, ResultManifest(run=run, attempt=1, files=files), provenance, folders.manifest(path))


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
