"""Poll the scheduler for many runs at once, and record what is new.

A scheduler that does not answer is polled again. A job that it does not know is looked for by its markers on the
cluster, after a deadline. No answer is never taken for success.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from biomeroworker import errors
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.engine.results import array_status
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.engine.steps.leased_run import LeasedRun, PolledJob
from biomeroworker.errors import Conflict, Fault, Transient
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState, StaleAttempt


class JobMonitor:
    """Polls jobs and records their states. A poll without news makes no database query."""

    def __init__(self, ctx: EngineContext, fault_handler: FaultHandler) -> None:
        self._ctx, self._log, self._fault_handler = ctx, ctx.log, fault_handler

    def poll(self, cluster: str, runs: Sequence[LeasedRun]) -> dict[UUID, bool]:
        """Query a cluster once for the jobs of many runs, and record what is new.

        Returns
        -------
        For each run with news, whether its next step is due now.

        Raises
        ------
        Fault
            The scheduler did not answer: nothing is known about any of the jobs.
        """
        place = self._ctx.cluster_context(cluster).cluster
        jobs, news = self._load(runs)
        if jobs:
            answers = self._query(place, [job for _, job in jobs])
            for leased, job in jobs:
                due = self._record(leased, job, answers.get(job.name, []))
                if due is not None:
                    news[leased.id] = due
        return news

    def _load(self, runs: Sequence[LeasedRun]) -> tuple[list[tuple[LeasedRun, PolledJob]], dict[UUID, bool]]:
        """The job of each run, from memory or from the log; and the runs that cannot be read, whose step is due."""
        jobs: list[tuple[LeasedRun, PolledJob]] = []
        unreadable: dict[UUID, bool] = {}
        for leased in runs:
            try:
                if job := leased.polled or _job_of(self._log.run(leased.id)):
                    jobs.append((leased, job))
            except Exception as error:
                self._handle_run_error(leased, error)
                unreadable[leased.id] = True
        return jobs, unreadable

    @staticmethod
    def _query(cluster: Cluster, jobs: Sequence[PolledJob]) -> Mapping[str, Sequence[JobStatus]]:
        for job in jobs:
            if job.job_id is not None:
                cluster.learn_job_id(job.name, job.job_id)
        return cluster.status([job.name for job in jobs], min(job.since for job in jobs))

    def _record(self, leased: LeasedRun, job: PolledJob, found: Sequence[JobStatus]) -> bool | None:
        """Record an answer about one job; whether the run's next step is due now, None when there is no news."""
        answer = tuple((status.task, status.state, status.raw_state, status.reason, status.node) for status in found)
        progress = tuple(status.progress for status in found)
        if (answer, progress) == (job.answer, job.progress) and _is_active(found):
            return None
        try:
            context = RunContext(self._log.run(leased.id), leased, self._ctx)
            if context.attempt.name != job.name or context.run.state not in (RunState.QUEUED, RunState.RUNNING):
                raise StaleAttempt(f"run {leased.id} does not wait for {job.name} any more")
            with leased.lease.fence():
                changed, ended = self.record_status(context, found)
            leased.polled = replace(job, answer=answer, progress=progress)
        except Conflict:  # another process or a person changed the run first: read it again
            leased.polled = None
            return True
        except Exception as error:
            self._handle_run_error(leased, error)
            return True
        # progress alone is recorded, but is no reason to poll again soon
        return ended if ended or (changed and answer != job.answer) else None

    def _handle_run_error(self, leased: LeasedRun, error: Exception) -> None:
        """Handle an error that concerns one run only. An error of the database concerns all runs, and is raised."""
        leased.polled = None
        if isinstance(errors.classify(error), Transient):
            raise error
        try:
            with leased.lease.fence():
                self._fault_handler.handle(leased, errors.classify(error))
        except Exception as another:  # the fault cannot be recorded either: the run's own step will fail and log it
            if not isinstance(another, Conflict) and isinstance(errors.classify(another), Transient):
                raise

    def record_status(self, context: RunContext, found: Sequence[JobStatus]) -> tuple[bool, bool]:
        """Record the scheduler's answer about a run's job; return whether it was new, and whether the job has ended.

        Of an array the numbers of tasks in each state are recorded, when they change.
        """
        run, attempt = context.run, context.attempt
        status, tasks = array_status.of_attempt(attempt.name, found, attempt.tasks)
        if tasks:
            self._release_again(context, tasks)
            ended_chunks = run.chunks - len(tasks) + array_status.count_ended(tasks)
            status = replace(status, progress=f"{100 * ended_chunks / run.chunks:.0f}%")
        changed = self._log.observe(run.id, attempt.number, status)
        context.guard.check()
        text = f"job {attempt.job_id} {status.raw_state or status.state.name}"
        context.report_progress(f"{text} ({status.reason})" if status.reason else text)
        ended = status.state.is_terminal or self._is_overdue(context, status)
        if ended:
            self._log.intend(run.id, RunState.FETCHING, attempt=attempt.number, **array_status.to_event(status, tasks))
        return changed, ended

    @staticmethod
    def _release_again(context: RunContext, tasks: Mapping[int, JobStatus]) -> None:
        """Release tasks again that a restarted SLURM controller holds, because it lost their release."""
        held = [task for task in tasks if task in context.attempt.released and tasks[task].is_held]
        if held and all("JobHeldUser" in tasks[task].reason for task in held):
            context.cluster.release(context.attempt.name, held)

    @property
    def patience_seconds(self) -> float:
        """How long a cluster may not answer before the runs that wait for it are paused."""
        return self._ctx.settings.worker.retry_hours * 3600

    def record_unreachable(self, runs: Sequence[LeasedRun], fault: Fault, delay: float, *, give_up: bool) -> None:
        """Record that the scheduler did not answer; pause the runs if ``give_up``."""
        for leased in runs:
            leased.polled = None  # the next answer is recorded even if it is the same as the last
            try:
                context = RunContext(self._log.run(leased.id), leased, self._ctx)
            except Exception as error:
                if isinstance(errors.classify(error), Transient):
                    raise
                continue  # nothing can be recorded about this run; its own step will fail and log it
            if context.run.state.is_terminal or context.run.paused or context.run.cancel_requested:
                continue
            with contextlib.suppress(Conflict), leased.lease.fence():
                if give_up:
                    self._fault_handler.pause(context, fault)
                else:
                    self._fault_handler.retry_later(context, fault, delay)

    def _is_overdue(self, context: RunContext, status: JobStatus) -> bool:
        """Whether the scheduler has not known the job for so long that its markers must be read instead."""
        if status.state is not JobState.UNKNOWN:
            return False
        deadline = timedelta(seconds=self._ctx.timing.unknown_deadline_seconds)
        return datetime.now(UTC) - context.attempt.last_known > deadline


def _job_of(run: WorkflowRun) -> PolledJob | None:
    if not run.attempt:
        return None
    attempt = run.attempts[run.attempt]
    return PolledJob(attempt.name, attempt.job_id, run.created_on)


def _is_active(found: Sequence[JobStatus]) -> bool:
    """Whether the job certainly waits or runs, so that an answer that repeats the last one needs no action."""
    return bool(found) and all(status.state in (JobState.PENDING, JobState.RUNNING) for status in found)
