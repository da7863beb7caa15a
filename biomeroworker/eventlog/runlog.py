"""The event log: written by the engine, read by all parts.

Each method that records is one transaction: the events, the rows that dashboards and lists read, and the position up to
which events were projected into them commit together or not at all. After a conflict with another process, the change
is decided again on the new state. If nothing changes, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

from eventsourcing.persistence import IntegrityError
from sqlalchemy import Engine, select

from biomeroworker import __version__
from biomeroworker.domain.constants import IMAGE_EXPORT_SCRIPT, IMAGE_IMPORT_SCRIPT, IMAGE_IMPORT_TASK
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.aggregates.durations import Period, periods, time_in_states
from biomeroworker.eventlog.aggregates.records import Attempt, FaultRecord, Intent, LoggedEvent, RunSummary
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import (
    AlreadyEnded,
    LogError,
    NoSuchRun,
    NotAllowed,
    RunState,
    StaleAttempt,
)
from biomeroworker.eventlog.aggregates.task import Task
from biomeroworker.eventlog.database import connect
from biomeroworker.eventlog.legacy_views import JobAccounting, JobProgress, WorkflowAnalytics, WorkflowProgress
from biomeroworker.eventlog.store.cleanup_queue import CleanupQueue
from biomeroworker.eventlog.store.leases import Leases
from biomeroworker.eventlog.store.outbox import Outbox
from biomeroworker.eventlog.store.pending_cancels import PendingCancels
from biomeroworker.eventlog.store.recorder import SQLRecorder
from biomeroworker.eventlog.tables import VIEWS
from biomeroworker.eventlog.tracker import WorkflowTracker, retry_on_conflict
from biomeroworker.eventlog.unit_of_work import RunUnitOfWork
from biomeroworker.eventlog.values import refuse_secrets, sanitize

__all__ = [
    "AlreadyEnded", "Attempt", "FaultRecord", "Intent", "LogError", "LoggedEvent", "NoSuchRun", "NotAllowed",
    "RunLog", "RunState", "RunSummary", "StaleAttempt", "Task", "WorkflowRun",
]  # fmt: skip


class RunLog:
    """Runs, from acceptance to their end. Safe to share between threads; each process needs its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recorder = SQLRecorder(engine)
        self._recorder.create()
        #: The same log for programs that record runs and tasks themselves, and the read tables that they use.
        self.tracker = WorkflowTracker(self._recorder)
        self.job_accounting = JobAccounting(self._recorder)
        self.job_progress = JobProgress(self._recorder)
        self.workflow_progress = WorkflowProgress(self._recorder)
        self.workflow_analytics = WorkflowAnalytics(self._recorder)
        self.leases = Leases(self._recorder)
        #: Jobs that still have to be cancelled.
        self.pending_cancels = PendingCancels(self._recorder)
        #: The notifications to deliver, and the ended runs that still have folders.
        self.outbox = Outbox(self._recorder)
        self.cleanup = CleanupQueue(self._recorder)

    @classmethod
    def open(cls, url: str) -> RunLog:
        """Open the log at ``postgresql+psycopg2://…`` or ``sqlite:///file``, and create missing tables.

        When the log of an earlier program is opened first, its read tables are rebuilt from its events.
        """
        return cls(connect(url))

    @property
    def engine(self) -> Engine:
        """The engine of the database, for queries of the read tables."""
        return self._engine

    def close(self) -> None:
        """Close the connections to the database."""
        self.tracker.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- recording ----------------------------------------------------------------------------------------------------

    def accept(
        self,
        request: Mapping[str, Any],
        *,
        name: str,
        description: str,
        user: int,
        group: int,
        run_id: UUID | None = None,
    ) -> UUID:
        """Accept a run: after the return of this call it will end exactly once.

        Parameters
        ----------
        run_id
            Chosen by a caller that may have to repeat the call, because the answer was lost: a repeated call with the
            same request accepts one run.

        Raises
        ------
        biomeroworker.errors.RequestRejected
            The request seems to contain a secret.
        NotAllowed
            ``run_id`` belongs to another request.
        """
        refuse_secrets(request)
        run = WorkflowRun._create(
            WorkflowRun.WorkflowInitiated,  # type: ignore[attr-defined]  # made by the decorator
            id=run_id or uuid4(),
            name=name,
            description=description,
            user=user,
            group=group,
        )
        run.accept(request)
        try:
            self.tracker.save(run)
        except IntegrityError:
            if self.run(run.id).request != run.request:
                raise NotAllowed(f"run {run.id} is of another request") from None
        return run.id

    def run(self, run_id: UUID) -> WorkflowRun:
        """The current state of a run. It is a copy: changes to it are not recorded.

        Raises
        ------
        NoSuchRun
            There is no run with this id.
        """
        return self.tracker.run(run_id)

    @retry_on_conflict
    def intend(self, run_id: UUID, stage: RunState, *, attempt: int = 0, **detail: Any) -> None:
        """Enter ``stage``, with the detail of what is about to be done there. The same intent is recorded once."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.intend(stage, attempt, detail)
        request = change.run.recorded_request
        match stage:
            case RunState.EXPORTING:
                change.begin_task("export", IMAGE_EXPORT_SCRIPT, __version__, request.inputs, {})
            case RunState.SUBMITTING:
                change.begin_task(
                    f"job-{change.run.attempt}",
                    request.workflow,
                    change.run.workflow_version,
                    request.inputs,
                    request.parameters,
                    started=False,
                )
            case RunState.FETCHING:
                change.begin_task(f"fetch-{change.run.attempt}", IMAGE_IMPORT_SCRIPT, __version__, {}, {})
            case RunState.IMPORTING:
                change.end_task(f"job-{change.run.attempt}", "")  # the job has succeeded when its results are checked
                change.begin_task(f"import-{change.run.attempt}", IMAGE_IMPORT_TASK, __version__, request.outputs, {})
        change.commit()

    @retry_on_conflict
    def complete(self, run_id: UUID, stage: RunState, *, attempt: int = 0, **outcome: Any) -> WorkflowRun:
        """Record the outcome of the open intent of ``stage``; return the run with it."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.complete(stage, attempt, outcome)
        match stage:
            case RunState.TRANSFERRING:
                change.end_task("export", "")
            case RunState.FETCHING:
                change.end_task(f"fetch-{change.run.attempt}", "")
            case RunState.IMPORTING:
                change.end_task(f"import-{change.run.attempt}", "")
        return change.commit()

    @retry_on_conflict
    def begin_attempt(
        self, run_id: UUID, number: int, name: str, *, excluded_nodes: Iterable[str] = (), tasks: Iterable[int] = ()
    ) -> None:
        """Start attempt ``number``, with ``name`` as the name of its job, at the transfer of its files.

        ``tasks`` makes the job an array: the numbers of the chunks that it processes.

        The attempt before it, if any, is replaced: later records for it raise `StaleAttempt`.
        """
        change = RunUnitOfWork(self.tracker, run_id)
        before = change.run.attempt
        change.run.begin_attempt(number, name, list(excluded_nodes), tasks)
        if before and before != change.run.attempt:
            faults = [fault.message for fault in change.run.faults if fault.attempt == before]
            change.fail_tasks(faults[-1] if faults else f"replaced by attempt {number}")
        change.commit()

    @retry_on_conflict
    def submitted(self, run_id: UUID, attempt: int, job_id: int) -> None:
        """Record the id of the attempt's one job."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.submitted(attempt, job_id)
        task = change.task(f"job-{attempt}")
        if task is not None and not task.job_ids:
            task.submitted(job_id)
            task.start_task()
        change.commit()

    @retry_on_conflict
    def chunks_sent(self, run_id: UUID, attempt: int, chunks: Iterable[int], **outcome: Any) -> None:
        """Record that chunks are on the cluster and that their tasks of the attempt's array were released."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.chunks_sent(attempt, chunks, outcome)
        change.commit()

    @retry_on_conflict
    def observe(self, run_id: UUID, attempt: int, status: JobStatus) -> bool:
        """Record the scheduler's answer about the attempt's job, if it is new; return whether it is.

        Progress (``43%``, a number from 0 to 100, or None for unknown) is recorded in whole percents.
        """
        change = RunUnitOfWork(self.tracker, run_id)
        changed = change.run.observe(attempt, status)
        if changed:
            task = change.task(f"job-{attempt}")
            seen = change.run.attempts[attempt].observation
            if task is not None and seen is not None and seen.state is not JobState.UNKNOWN:
                task.observed(seen.state.name, seen.progress)
            change.commit()
        return changed

    @retry_on_conflict
    def fault(
        self,
        run_id: UUID,
        stage: RunState,
        *,
        attempt: int,
        kind: str,
        message: str,
        detail: str = "",
        hint: str = "",
        retry_at: datetime | None = None,
    ) -> None:
        """Record a fault, and when its step is tried again."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.fault(
            stage, attempt, kind=kind, message=sanitize(message), detail=sanitize(detail), hint=hint, retry_at=retry_at
        )
        change.commit()

    @retry_on_conflict
    def pause(self, run_id: UUID, reason: str, stage: RunState) -> None:
        """Pause a run before its next step."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.pause(sanitize(reason), stage)
        change.commit()

    @retry_on_conflict
    def resume(self, run_id: UUID) -> None:
        """Let a paused run continue with the same step."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.resume()
        change.commit()

    @retry_on_conflict
    def request_cancel(self, run_id: UUID, by: str) -> None:
        """Request the cancel of a run. The supervisor that executes it cancels its job."""
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.request_cancel(by)
        change.commit()

    def finish(self, run_id: UUID, **summary: Any) -> None:
        """End the run with success.

        Raises
        ------
        AlreadyEnded
            The run has ended already. `fail` and `cancelled` raise it too.
        """
        self._end(run_id, RunState.DONE, summary)

    def fail(self, run_id: UUID, report: Mapping[str, Any]) -> None:
        """End the run with failure; ``report`` has what its user needs to know."""
        self._end(run_id, RunState.FAILED, report)

    def cancelled(self, run_id: UUID, report: Mapping[str, Any]) -> None:
        """End the run after a cancel request."""
        self._end(run_id, RunState.CANCELLED, report)

    @retry_on_conflict
    def _end(self, run_id: UUID, state: RunState, report: Mapping[str, Any]) -> None:
        change = RunUnitOfWork(self.tracker, run_id)
        change.run.end(state, report)
        if state is RunState.DONE:
            for role in ("export", *(f"{kind}-{change.run.attempt}" for kind in ("job", "fetch", "import"))):
                change.end_task(role, "")
        change.fail_tasks(str(change.run.report.get("message", state.value)))
        change.commit()

    # -- reading ------------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[UUID]:
        """The runs to execute, including paused ones, oldest first."""
        runs = VIEWS.runs.c
        query = select(runs.run_id).where(runs.ended.is_(None), runs.carried).order_by(runs.started)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def runs(
        self,
        *,
        user: int | None = None,
        group: int | None = None,
        state: RunState | str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[RunSummary]:
        """Runs, newest first; ``since`` is the earliest acceptance."""
        runs = VIEWS.runs.c
        query = select(VIEWS.runs).order_by(runs.started.desc()).limit(limit)
        query = query.where(runs.user == user) if user is not None else query
        query = query.where(runs.group == group) if group is not None else query
        query = query.where(runs.state == RunState(state).value) if state is not None else query
        if since is not None:
            query = query.where(runs.started >= since.astimezone(UTC).replace(tzinfo=None))
        with self._engine.connect() as connection:
            return [_summary(row) for row in connection.execute(query).mappings()]

    def events(self, run_id: UUID) -> list[LoggedEvent]:
        """All events of a run and of its tasks, in the order of their recording."""
        run = self.run(run_id)
        logged = []
        for event in self._recorder.events_of([run_id, *run.tasks]):
            topic, attributes = self._recorder.decode(event)
            when = attributes.pop("timestamp")
            attributes.pop("originator_topic", None)
            aggregate, _, name = topic.partition(":")[2].partition(".")
            assert isinstance(event.originator_id, UUID)
            logged.append(LoggedEvent(event.id, when, name, attributes, event.originator_id, aggregate))
        return logged

    def time_in_states(self, run_id: UUID) -> dict[RunState, float]:
        """Seconds that a run spent in each state."""
        self.run(run_id)
        return time_in_states(self.tracker.events.get(run_id), datetime.now(UTC))

    def periods(self, run_id: UUID) -> list[Period]:
        """The times that a run spent in its states, oldest first."""
        self.run(run_id)
        return periods(self.tracker.events.get(run_id), datetime.now(UTC))

    def rebuild(self) -> int:
        """Rebuild all read tables from the events, beside the live ones; return the number of events."""
        return self._recorder.rebuild()

    def catch_up(self) -> int:
        """Write the rows of events that another program recorded; returns how many events there were."""
        return self._recorder.catch_up()

    def cancel_requests(self, run_ids: Iterable[UUID]) -> list[UUID]:
        """Those of the runs for which a cancel was requested. One indexed query."""
        runs = VIEWS.runs.c
        wanted = set(run_ids)
        with self._engine.connect() as connection:
            query = select(runs.run_id).where(runs.ended.is_(None), runs.carried, runs.cancel_requested)
            return [run_id for run_id in connection.execute(query).scalars() if run_id in wanted]


def _summary(row: Mapping[Any, Any]) -> RunSummary:
    values = dict(row)
    for name in ("started", "modified", "ended"):
        if values[name] is not None:
            values[name] = values[name].replace(tzinfo=UTC)
    managed = values.pop("carried")  # the column keeps the name that existing databases have
    return RunSummary(id=values.pop("run_id"), state=RunState(values.pop("state")), managed=managed, **values)
