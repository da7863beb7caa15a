"""Ask the scheduler about many runs at once, and record what is new.

Soon after something happened, rarely when nothing does (`next_interval`, pure). A scheduler that is silent is asked
again; what it does not know is looked for by its own markers once it had its time. Silence is never success.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from biomeroworker import errors
from biomeroworker.cluster.slurm.scheduler import JobState, JobStatus
from biomeroworker.engine.results import job_status
from biomeroworker.engine.steps.context import EngineContext
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.errors import Conflict, Fault, Transient
from biomeroworker.eventlog.aggregates.records import Attempt
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState, StaleAttempt

#: Seconds between the first questions about a job; short jobs should not wait, long ones should not be nagged about.
FIRST_INTERVAL_SECONDS = 2.0
INTERVAL_GROWTH = 2.0
#: A scheduler that has not known a submitted job for so long is not going to.
UNKNOWN_DEADLINE = timedelta(minutes=10)


def next_interval(previous: float | None, *, changed: bool, longest: float) -> float:
    """Seconds to the next question.

    Parameters
    ----------
    previous
        The interval before this answer; None before the first question.
    changed
        Whether the answer told something new.
    longest
        The site's ``poll_seconds``: no interval is longer.
    """
    if previous is None:
        return min(FIRST_INTERVAL_SECONDS, longest)
    return min(previous if changed else previous * INTERVAL_GROWTH, longest)


@dataclass(frozen=True)
class _PolledJob:
    """A run that is asked about: its job, and what was heard of it last and is in the log."""

    name: str
    job_id: int | None
    since: datetime
    answer: tuple[tuple[object, ...], ...] = ()
    progress: tuple[str | None, ...] = ()


class JobMonitor:
    """What is asked and heard about jobs. A round without news costs the log nothing."""

    def __init__(self, ctx: EngineContext, fault_handler: FaultHandler) -> None:
        self._ctx, self._log, self._fault_handler = ctx, ctx.log, fault_handler
        self._polled: dict[UUID, _PolledJob] = {}

    def invalidate(self, run_id: UUID) -> None:
        """The run has moved: what was heard of it tells nothing any more."""
        self._polled.pop(run_id, None)

    def poll(self, cluster: str, run_ids: Sequence[UUID]) -> dict[UUID, bool]:
        """Ask a cluster once about the jobs of many runs, and record what is new.

        Returns
        -------
        The runs of which something was new, and whether they have a next step now.

        Raises
        ------
        Fault
            The scheduler did not answer: nothing is known of any of them.
        """
        place = self._ctx.cluster_context(cluster).cluster
        news: dict[UUID, bool] = {}
        known: dict[UUID, _PolledJob] = {}
        for run_id in run_ids:
            try:
                if one := self._polled.get(run_id) or self._load(run_id):
                    known[run_id] = one
            except Exception as error:
                self._handle_run_error(run_id, error)
                news[run_id] = True
        if not known:
            return news
        for one in known.values():
            if one.job_id is not None:
                place.learn_job_id(one.name, one.job_id)
        answers = place.status([one.name for one in known.values()], min(one.since for one in known.values()))
        for run_id, asked in known.items():
            found = answers.get(asked.name, [])
            said = tuple((status.task, status.state, status.raw_state, status.reason, status.node) for status in found)
            progress = tuple(status.progress for status in found)
            if said == asked.answer and progress == asked.progress and _is_active(found):
                continue
            try:
                run = self._log.run(run_id)
                if run.attempts[run.attempt].name != asked.name:
                    raise StaleAttempt(f"{asked.name} counts no more")
                with self._ctx.lease(run_id):
                    changed, goes_on = self.record_status(run_id, run, found)
                self._polled[run_id] = replace(asked, answer=said, progress=progress)
            except Conflict:  # another process was faster, or a person: look anew
                self.invalidate(run_id)
                changed, goes_on = True, True
            except Exception as error:
                self._handle_run_error(run_id, error)
                changed, goes_on = True, True
            # that a job is further on is recorded, but is no reason to ask again soon
            if (changed and said != asked.answer) or goes_on:
                news[run_id] = goes_on
        return news

    def _handle_run_error(self, run_id: UUID, error: Exception) -> None:
        """What is wrong with one run is met by that run alone. That the log is away is everybody's trouble: raised."""
        self.invalidate(run_id)
        if isinstance(errors.classify(error), Transient):
            raise error
        try:
            with self._ctx.lease(run_id):
                self._fault_handler.handle(run_id, errors.classify(error))
        except Exception as another:  # not even that: its own step will fail as well, and is said there
            if not isinstance(another, Conflict) and isinstance(errors.classify(another), Transient):
                raise

    def _load(self, run_id: UUID) -> _PolledJob | None:
        run = self._log.run(run_id)
        if not run.attempt:
            return None
        attempt = run.attempts[run.attempt]
        return _PolledJob(attempt.name, attempt.job_id, run.created_on)

    def record_status(self, run_id: UUID, run: WorkflowRun, found: Sequence[JobStatus]) -> tuple[bool, bool]:
        """Record what the scheduler says of a run's job: whether that was news, and whether the job has ended.

        Of an array one line is recorded, and only when it changes: how many tasks are where.
        """
        attempt = run.attempts[run.attempt]
        tasks = job_status.per_task(attempt.name, found, attempt.tasks)
        if tasks:
            self._release_again(run, attempt, tasks)
            status = job_status.aggregate_array(attempt.name, tasks)
            before = run.chunks - len(tasks)
            progress: str | None = f"{100 * (before + job_status.ended(tasks)) / run.chunks:.0f}%"
        else:
            status = found[-1] if found else job_status.unknown(attempt.name)
            progress = status.progress
        changed = self._log.observe(
            run_id,
            attempt.number,
            state=status.state.name,
            raw_state=status.raw_state,
            reason=status.reason,
            node=status.node,
            progress=progress,
        )
        word = f"job {attempt.job_id} {status.raw_state or status.state.name}"
        self._ctx.report_progress(run_id, run.state, None, f"{word} ({status.reason})" if status.reason else word)
        ended = status.state.is_terminal or self._is_overdue(run, status)
        if ended:
            self._log.intend(run_id, RunState.FETCHING, attempt=attempt.number, **final_status(status, tasks))
        return changed, ended

    def _release_again(self, run: WorkflowRun, attempt: Attempt, tasks: Mapping[int, JobStatus]) -> None:
        """A controller that was killed may come back with tasks on hold that were let go right before."""
        held = [task for task in tasks if task in attempt.released and tasks[task].is_held]
        if held and all("JobHeldUser" in tasks[task].reason for task in held):
            self._ctx.cluster_of(run).release(attempt.name, held)

    @property
    def patience_seconds(self) -> float:
        """For how long a cluster may be silent before runs that wait for it are paused."""
        return self._ctx.settings.worker.retry_hours * 3600

    def record_unreachable(self, run_ids: Sequence[UUID], fault: Fault, delay: float, *, give_up: bool) -> None:
        """Record that the scheduler did not answer about these runs; pause them when patience is over, or useless."""
        for run_id in run_ids:
            self.invalidate(run_id)  # that it is heard of again will be news
            try:
                run = self._log.run(run_id)
            except Exception as error:
                if isinstance(errors.classify(error), Transient):
                    raise
                continue  # nothing can be recorded of it; that is said where its step fails
            if run.state.is_terminal or run.paused or run.cancel_requested:
                continue
            with contextlib.suppress(Conflict), self._ctx.lease(run_id):
                told = errors.report(fault, run.state.value, str(run_id), outcome="paused")
                if give_up or not isinstance(fault, Transient):
                    self._fault_handler.record(run_id, run, fault, None)
                    self._log.pause(run_id, str(told), run.state)
                    self._ctx.report_progress(run_id, run.state, None, f"paused: {fault}")
                else:
                    self._fault_handler.record(run_id, run, fault, datetime.now(UTC) + timedelta(seconds=delay))
                    self._ctx.report_progress(run_id, run.state, None, f"{fault}; asked again in {delay:.0f} s")

    def _is_overdue(self, run: WorkflowRun, status: JobStatus) -> bool:
        """A job that the scheduler does not know is looked for by its own markers, once the scheduler had its time."""
        if status.state is not JobState.UNKNOWN:
            return False
        last = run.attempts[run.attempt].last_known
        return datetime.now(UTC) - last > UNKNOWN_DEADLINE


def _is_active(found: Sequence[JobStatus]) -> bool:
    """Whether the same answer as before needs nothing done: the job waits or runs, and nothing of it is unclear."""
    return bool(found) and all(status.state in (JobState.PENDING, JobState.RUNNING) for status in found)


def final_status(status: JobStatus, tasks: dict[int, JobStatus]) -> dict[str, Any]:
    """How a job ended, as the intent to fetch it keeps it; of an array task by task."""
    detail = job_status.to_dict(status)
    if tasks:
        detail["tasks"] = job_status.tasks_to_dicts(tasks)
        if used := job_status.usage(tasks.values()):
            detail["usage"] = used
    return detail
