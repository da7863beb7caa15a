"""Fetch the results of a job, judge them by three witnesses, and give them to the run's source."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from biomeroworker.cluster.transport.transport import TransferResult
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.domain.manifest import ResultManifest
from biomeroworker.domain.summary import count_outputs, describe_outputs, without_result
from biomeroworker.engine.results import array_status, partial_report, task_outcomes
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.engine.steps.input_manifest import InputManifestStore
from biomeroworker.engine.steps.leased_run import StepResult, next_step
from biomeroworker.engine.steps.run_report import ReportWriter
from biomeroworker.errors import Blocked, NodeFault
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.workflows import attempt_folder, markers
from biomeroworker.workflows.outcome import verdict, verify


class ResultCollector:
    """The steps *fetch* and *import*."""

    def __init__(self, ctx: EngineContext, fault_handler: FaultHandler, manifests: InputManifestStore) -> None:
        self._log, self._fault_handler, self._manifests = ctx.log, fault_handler, manifests
        self._reports = ReportWriter(ctx)

    # -- fetch --------------------------------------------------------------------------------------------------------

    def fetch(self, context: RunContext) -> StepResult:
        """Fetch what the attempt's job left, and judge it."""
        started = time.monotonic()
        run, attempt, space = context.run, context.attempt, context.workspace
        status, tasks = self._recorded_status(run)
        if not array_status.is_final(status, tasks):  # the scheduler did not know the job: query it again
            status, tasks = self._query_status(context)
            if status.state in (JobState.PENDING, JobState.RUNNING):
                context.guard.check()
                context.report_progress(f"job {status.job_id} is still {status.raw_state}")
                return next_step(context.place.settings.slurm.poll_seconds)
            if array_status.is_final(status, tasks):
                self._log.intend(
                    context.id, RunState.FETCHING, attempt=attempt.number, **array_status.to_event(status, tasks)
                )
        fetched = self._fetch(context, attempt.number)
        seconds = round(time.monotonic() - started, 2)
        transfer = {"bytes": fetched.size, "travelled": fetched.bytes_sent, "seconds": seconds}
        if attempt.tasks:
            return self._collect_array(context, tasks, fetched, transfer)
        try:
            results = verdict(status, space.fetched(attempt.number), str(context.id), attempt.number)
        except Blocked as fault:
            raise (_as_node_fault(fault) if _resumed_since_block(run) else fault) from fault
        known = task_outcomes.under_prefix(fetched.digests, attempt_folder.OUT)
        verify(results, space.fetched(attempt.number) / attempt_folder.OUT, known)
        self._log.complete(context.id, RunState.FETCHING, attempt=attempt.number, files=len(results.files), **transfer)
        self._log.intend(context.id, RunState.IMPORTING, attempt=attempt.number)
        return next_step()

    def _collect_array(
        self, context: RunContext, tasks: dict[int, JobStatus], fetched: TransferResult, transfer: dict[str, Any]
    ) -> StepResult:
        number = context.run.attempt
        found = task_outcomes.classify_tasks(
            tasks, context.workspace.fetched(number), str(context.id), number, fetched.digests
        )
        if found.blocked and not _resumed_since_block(context.run):
            raise next(iter(found.blocked.values()))
        found.lost.update({task: _as_node_fault(fault) for task, fault in found.blocked.items()})
        files = sum(len(results.files) for results in found.good.values())
        judged = self._log.complete(
            context.id, RunState.FETCHING, attempt=number, tasks=found.detail(), files=files, **transfer
        )
        if found.lost:
            return self._fault_handler.handle_lost_tasks(replace(context, run=judged), found.lost)
        if not judged.good_chunks:
            raise partial_report.all_failed(judged.failed_chunks, judged.chunks)
        self._log.intend(context.id, RunState.IMPORTING, attempt=number)
        return next_step()

    @staticmethod
    def _recorded_status(run: WorkflowRun) -> tuple[JobStatus, dict[int, JobStatus]]:
        attempt, recorded = run.attempts[run.attempt], run.intent(RunState.FETCHING)
        tasks = array_status.tasks_from_event(recorded.get("tasks") or (), attempt.name, attempt.tasks)
        return JobStatus.from_event(recorded, attempt.name), tasks

    @staticmethod
    def _query_status(context: RunContext) -> tuple[JobStatus, dict[int, JobStatus]]:
        attempt = context.attempt
        found = context.cluster.status([attempt.name], context.run.created_on).get(attempt.name, [])
        return array_status.of_attempt(attempt.name, found, attempt.tasks)

    @staticmethod
    def _fetch(context: RunContext, number: int) -> TransferResult:
        return context.cluster.transport.fetch_tree(
            context.cluster.attempt_folder(context.id, number),
            context.workspace.fetched(number),
            progress=context.transfer_progress(),
        )

    # -- import -------------------------------------------------------------------------------------------------------

    def stage_out(self, context: RunContext) -> StepResult:
        """Give the results to the run's source, which imports them; then the run is done."""
        started = time.monotonic()
        run, space, number = context.run, context.workspace, context.run.attempt
        inputs = self._manifests.load(context)
        if run.chunks:
            results, folder = self._merge_task_results(context), space.results
        else:
            if not space.fetched(number).is_dir():  # the work folder was lost, or is on another machine
                self._log.intend(context.id, RunState.FETCHING, attempt=number, **run.intent(RunState.FETCHING))
                return next_step()
            status, _ = self._recorded_status(run)
            results = verdict(status, space.fetched(number), str(context.id), number)
            folder = space.fetched(number) / attempt_folder.OUT
        skipped = partial_report.skipped_inputs(inputs, results, list(run.good_chunks))
        partial = partial_report.partial_report(run.failed_chunks, skipped, inputs, str(context.id))
        made = context.source.stage_out(
            context.request,
            inputs,
            results,
            folder,
            replace(context.plan.provenance(run), without_result=without_result(partial)),
            lambda fraction, text: context.report_progress(text, fraction),
            context.guard,
        )
        report = self._reports.write(context, inputs, results, folder, made, partial)
        counts = count_outputs(made)
        self._log.complete(
            context.id,
            RunState.IMPORTING,
            attempt=number,
            made=[vars(one) for one in made],
            seconds=round(time.monotonic() - started, 2),
            **report,
        )
        self._log.finish(context.id, made=counts, **partial)
        text = describe_outputs(counts)
        context.report_progress(f"{text}; {partial['message']}" if partial else text, 1.0, stage=RunState.DONE)
        space.delete()
        return next_step()

    def _merge_task_results(self, context: RunContext) -> ResultManifest:
        """The results of all good tasks, from whichever attempt has them."""
        run, space = context.run, context.workspace
        good: dict[int, Path] = {}
        for task, number in run.good_chunks.items():
            if not space.fetched(number).is_dir():  # the work folder was lost, or is on another machine
                self._fetch(context, number)
            good[task] = space.fetched(number) / attempt_folder.task_name(task)
        for folder in good.values():
            files = markers.read_markers(folder).results or ()
            results = ResultManifest(run=str(context.id), attempt=run.attempt, files=files)
            verify(results, folder / attempt_folder.OUT)
        return task_outcomes.merge_results(good, space.results, str(context.id), run.attempt)


def _as_node_fault(fault: Blocked) -> NodeFault:
    """A person has fixed the cause, but the job has ended with it: only another job can succeed."""
    return NodeFault(str(fault), node="", hint=fault.hint, detail=fault.detail)


def _resumed_since_block(run: WorkflowRun) -> bool:
    """Whether a person resumed the run after this attempt was found blocked: fetching it again gives the same."""
    met = [fault for fault in run.faults if fault.attempt == run.attempt and fault.stage is RunState.FETCHING]
    return bool(met) and met[-1].kind == "blocked" and not run.consecutive_faults(RunState.FETCHING)
