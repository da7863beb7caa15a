"""Results on their way home: fetched, judged by three witnesses, brought to where they belong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

from biomeroworker.cluster.slurm.scheduler import JobState, JobStatus
from biomeroworker.cluster.transport.transport import TransferResult
from biomeroworker.domain.manifest import InputManifest, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.summary import describe_outputs
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.results import job_status, task_outcomes
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.engine.steps import job_monitor
from biomeroworker.engine.steps.context import EngineContext
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.errors import Blocked, Fault, NodeFault
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows import attempt_folder, markers
from biomeroworker.workflows.outcome import verdict, verify


class ResultCollector:
    """The steps *fetch* and *import*."""

    def __init__(self, ctx: EngineContext, fault_handler: FaultHandler) -> None:
        self._ctx, self._log, self._fault_handler = ctx, ctx.log, fault_handler

    # -- fetch --------------------------------------------------------------------------------------------------------

    def fetch(self, run_id: UUID, run: WorkflowRun) -> float | None:
        """Bring back what the attempt's job left, and judge it."""
        begun = time.monotonic()
        attempt = run.attempts[run.attempt]
        status, tasks = self._recorded_status(run)
        if not job_status.is_final(
            status, tasks
        ):  # we came here because the scheduler was silent: has it found its voice?
            status, tasks = self._query_status(run)
            if status.state in (JobState.PENDING, JobState.RUNNING):
                self._ctx.report_progress(run_id, run.state, None, f"job {status.job_id} {status.raw_state}, after all")
                return self._ctx.cluster_context_of(run).settings.slurm.poll_seconds
            if job_status.is_final(status, tasks):
                self._log.intend(
                    run_id, RunState.FETCHING, attempt=attempt.number, **job_monitor.final_status(status, tasks)
                )
        space = self._ctx.workspace(run_id)
        fetched = self._fetch(run_id, run, space, attempt.number)
        seconds = round(time.monotonic() - begun, 2)
        came = {"bytes": fetched.size, "travelled": fetched.bytes_sent, "seconds": seconds}
        if attempt.tasks:
            return self._collect_array(run_id, run, tasks, space, fetched, came)
        try:
            results = verdict(status, space.fetched(attempt.number), str(run_id), attempt.number)
        except Blocked as fault:
            raise (self._as_node_fault(fault) if _resumed_since_block(run) else fault) from fault
        known = task_outcomes.under_prefix(fetched.digests, attempt_folder.OUT)
        verify(results, space.fetched(attempt.number) / attempt_folder.OUT, known)
        self._log.complete(run_id, RunState.FETCHING, attempt=attempt.number, files=len(results.files), **came)
        self._log.intend(run_id, RunState.IMPORTING, attempt=attempt.number)
        return 0

    def _collect_array(
        self,
        run_id: UUID,
        run: WorkflowRun,
        tasks: dict[int, JobStatus],
        space: Workspace,
        fetched: TransferResult,
        came: dict[str, Any],
    ) -> float | None:
        number = run.attempt
        found = task_outcomes.classify_tasks(tasks, space.fetched(number), str(run_id), number, fetched.digests)
        if found.blocked and not _resumed_since_block(run):
            raise next(iter(found.blocked.values()))
        found.lost.update({task: self._as_node_fault(fault) for task, fault in found.blocked.items()})
        files = sum(len(results.files) for results in found.good.values())
        self._log.complete(run_id, RunState.FETCHING, attempt=number, tasks=found.detail(), files=files, **came)
        if found.lost:
            return self._fault_handler.handle_lost_tasks(run_id, found.lost)
        judged = self._log.run(run_id)
        if not judged.good_chunks:
            raise task_outcomes.all_failed(judged.failed_chunks, judged.chunks)
        self._log.intend(run_id, RunState.IMPORTING, attempt=number)
        return 0

    @staticmethod
    def _as_node_fault(fault: Blocked) -> NodeFault:
        """What a person has mended meanwhile: the job itself has ended over it, so it takes another one."""
        return NodeFault(str(fault), node="", hint=fault.hint, detail=fault.detail)

    @staticmethod
    def _recorded_status(run: WorkflowRun) -> tuple[JobStatus, dict[int, JobStatus]]:
        attempt, told = run.attempts[run.attempt], run.intent(RunState.FETCHING)
        tasks = job_status.tasks_from_dicts(told.get("tasks") or (), attempt.name, attempt.tasks)
        return job_status.from_dict(told, attempt.name), tasks

    def _query_status(self, run: WorkflowRun) -> tuple[JobStatus, dict[int, JobStatus]]:
        attempt = run.attempts[run.attempt]
        found = self._ctx.cluster_of(run).status([attempt.name], run.created_on).get(attempt.name, [])
        tasks = job_status.per_task(attempt.name, found, attempt.tasks)
        if tasks:
            return job_status.aggregate_array(attempt.name, tasks), tasks
        return (found[-1] if found else job_status.unknown(attempt.name)), {}

    def _fetch(self, run_id: UUID, run: WorkflowRun, space: Workspace, number: int) -> TransferResult:
        cluster = self._ctx.cluster_of(run)
        told = self._ctx.transfer_progress(run_id, run.state)
        return cluster.transport.fetch_tree(
            cluster.attempt_folder(run_id, number), space.fetched(number), progress=told
        )

    # -- import -------------------------------------------------------------------------------------------------------

    def stage_out(self, run_id: UUID, run: WorkflowRun, request: RunRequest, inputs: InputManifest) -> float:
        """Let the run's source make of the results what they are to become; then the run is done."""
        begun = time.monotonic()
        number = run.attempt
        space = self._ctx.workspace(run_id)
        if run.chunks:
            results, folder = self._merge_task_results(run_id, run, space), space.results
        else:
            fetching = run.intent(RunState.FETCHING)
            if not space.fetched(number).is_dir():  # the work folder was lost, or is another machine's
                self._log.intend(run_id, RunState.FETCHING, attempt=number, **fetching)
                return 0
            status = job_status.from_dict(fetching, run.attempts[number].name)
            results = verdict(status, space.fetched(number), str(run_id), number)
            folder = space.fetched(number) / attempt_folder.OUT
        made = self._ctx.source(request).stage_out(
            request,
            inputs,
            results,
            folder,
            ExecutionPlan.from_run(run).provenance(run_id, run, request.workflow),
            lambda fraction, word: self._ctx.report_progress(run_id, RunState.IMPORTING, fraction, word),
        )
        counts: dict[str, int] = {}
        for one in made:
            counts[one.kind] = counts.get(one.kind, 0) + one.count
        self._log.complete(
            run_id,
            RunState.IMPORTING,
            attempt=number,
            made=[vars(one) for one in made],
            seconds=round(time.monotonic() - begun, 2),
            **self._used(run),
        )
        partly = task_outcomes.partial_failure_report(run.failed_chunks, inputs, str(run_id))
        self._log.finish(run_id, made=counts, **partly)
        word = describe_outputs(counts)
        self._ctx.report_progress(run_id, RunState.DONE, 1.0, f"{word}; {partly['message']}" if partly else word)
        space.delete()
        return 0

    def _used(self, run: WorkflowRun) -> dict[str, Any]:
        """What the job used, where accounting was behind the queue when it ended: by now it has caught up."""
        if "cpu_seconds" in run.intent(RunState.FETCHING).get("usage", {}):
            return {}
        try:
            status, tasks = self._query_status(run)
        except Fault:  # nice to know, and no more than that
            return {}
        used = job_status.usage(tasks.values()) if tasks else status.usage()
        return {"usage": used} if used else {}

    def _merge_task_results(self, run_id: UUID, run: WorkflowRun, space: Workspace) -> ResultManifest:
        """The results of all good tasks, of whichever attempt each is."""
        good: dict[int, Path] = {}
        for task, number in run.good_chunks.items():
            if not space.fetched(number).is_dir():  # the work folder was lost, or is another machine's
                self._fetch(run_id, run, space, number)
            good[task] = space.fetched(number) / attempt_folder.task_name(task)
        for folder in good.values():
            left = markers.read_markers(folder).results or ()
            results = ResultManifest(run=str(run_id), attempt=run.attempt, files=left)
            verify(results, folder / attempt_folder.OUT)
        return task_outcomes.merge_results(good, space.results, str(run_id), run.attempt)


def _resumed_since_block(run: WorkflowRun) -> bool:
    """Whether a person has resumed the run after this attempt was found to be blocked: looking again cannot help."""
    met = [fault for fault in run.faults if fault.attempt == run.attempt and fault.stage is RunState.FETCHING]
    return bool(met) and met[-1].kind == "blocked" and not run.consecutive_faults(RunState.FETCHING)
