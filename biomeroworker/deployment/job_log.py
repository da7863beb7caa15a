"""The log of an ended run as text: its facts, and the outputs of its job as they are on the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.workflows.attempt_folder import CONTAINER_STDERR, CONTAINER_STDOUT, STDOUT, task_name

#: Outputs of a job in its folder: those of the job script, and of the container.
OUTPUTS = (STDOUT, CONTAINER_STDOUT, CONTAINER_STDERR)
#: Largest part of one output that is read, from its start.
OUTPUT_LIMIT_BYTES = 1 << 19
#: Tasks of an array whose outputs are read, the failed ones first.
TASKS_READ = 5
#: Seconds for one read.
READ_TIMEOUT_SECONDS = 20.0


def job_log(clusters: Mapping[str, Cluster], run: WorkflowRun) -> str:
    """The facts of a run and the outputs of its last attempt; what cannot be read is named."""
    return "\n".join([*_facts(run), *_outputs(clusters, run)]) + "\n"


def _facts(run: WorkflowRun) -> Iterator[str]:
    request, plan = run.recorded_request, run.plan
    yield f"Run {run.id}: {run.name}, {run.state.value}"
    yield f"Accepted {run.created_on:%Y-%m-%d %H:%M:%S} UTC, ended {run.modified_on:%Y-%m-%d %H:%M:%S} UTC"
    if plan:
        yield f"Image {plan.image}, version {plan.version}"
    yield f"Inputs {json.dumps(request.inputs)}"
    yield f"Parameters {json.dumps(plan.parameters if plan else request.parameters)}"
    if request.files:
        yield f"Files {json.dumps(request.files)}"
    if run.job_ids:
        yield f"SLURM jobs {', '.join(map(str, run.job_ids))}"
    for key in ("stage", "kind", "message", "detail", "next_step"):
        if value := run.report.get(key):
            yield f"{key.replace('_', ' ').capitalize()}: {value}"


def _outputs(clusters: Mapping[str, Cluster], run: WorkflowRun) -> Iterator[str]:
    if not run.job_ids:
        yield "\nNo job was submitted."
        return
    attempt = run.attempts[run.attempt]
    failed = [task for task in attempt.tasks if task not in run.good_chunks]
    tasks = [*failed, *(task for task in attempt.tasks if task not in failed)][:TASKS_READ]
    if len(attempt.tasks) > len(tasks):
        yield f"\nOutputs of {len(tasks)} of {len(attempt.tasks)} tasks:"
    try:
        cluster = clusters[run.cluster]
        folder = cluster.attempt_folder(run.id, run.attempt)
        for below in [task_name(task) for task in tasks] or [""]:
            for name in OUTPUTS:
                path = f"{folder}/{below}/{name}" if below else f"{folder}/{name}"
                try:
                    content = cluster.transport.read_from(path, limit=OUTPUT_LIMIT_BYTES, timeout=READ_TIMEOUT_SECONDS)
                except FileNotFoundError:
                    continue
                yield f"\n--- {f'{below}/{name}' if below else name} ---"
                yield content.decode("utf-8", "replace").rstrip()
    except Exception as error:  # the log is an extra: the run has ended, whatever the cluster answers
        yield f"\nThe outputs of the job cannot be read from the cluster: {error}"
