"""The WorkflowRun aggregate: what may be recorded of a run, decided on its own history alone.

It prevents two ends of one run, two jobs of one attempt, and a late message from an abandoned attempt applied to its
successor. Commands check, then trigger events. The methods with an event's name in their decorator apply the event, to
a live run and to its history alike, and therefore never refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from eventsourcing.domain import Aggregate, event

from biomeroworker.domain import ranges
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.aggregates.records import Attempt, FaultRecord, Intent
from biomeroworker.eventlog.aggregates.run_facts import RunFacts
from biomeroworker.eventlog.aggregates.states import (
    AlreadyEnded,
    NotAllowed,
    RunState,
    StaleAttempt,
    after_observation,
    check_transition,
)
from biomeroworker.eventlog.values import to_json_values, whole_percent

TOPIC = "biomero.eventsourcing:WorkflowRun"

#: The latest faults that a run holds in memory; the log has all of them.
FAULTS_KEPT = 100
#: Stages of faults that may happen while a job is already polled: its next chunks are exported and sent meanwhile.
STREAMING_STAGES = (RunState.EXPORTING, RunState.TRANSFERRING)


class WorkflowRun(RunFacts, Aggregate):
    """One run of a workflow, from its acceptance to its one end.

    A run that another program recorded has no `request` and is not executed here; its history can be read.
    """

    TOPIC = TOPIC
    INITIAL_VERSION = 0

    class Event(Aggregate.Event):
        """Base of the events below."""

        TOPIC = f"{TOPIC}.Event"

    class Created(Event, Aggregate.Created):
        """Base of the first event; the library wants it to have a topic of its own."""

        TOPIC = f"{TOPIC}.Created"

    @event("WorkflowInitiated", topic=f"{TOPIC}.WorkflowInitiated")
    def __init__(self, name: str, description: str, user: int, group: int) -> None:
        self.name = name
        self.description = description
        self.user = user
        self.group = group
        self.tasks: list[UUID] = []
        self.state = RunState.ACCEPTED
        self.request: dict[str, Any] | None = None
        self.attempt = 0
        self.attempts: dict[int, Attempt] = {}
        self.intents: dict[RunState, Intent] = {}
        self.outcomes: dict[RunState, dict[str, Any]] = {}
        self.faults: list[FaultRecord] = []
        self.paused = False
        self.pause_reason = ""
        self.cancel_requested = False
        self.cancelled_by = ""
        #: The cancel was requested during the import: some results may be imported.
        self.cancelled_in_import = False
        self.report: dict[str, Any] = {}
        self._latest_intents: dict[RunState, Intent] = {}
        self._consecutive_faults: list[FaultRecord] = []

    # -- commands -----------------------------------------------------------------------------------------------------

    def accept(self, request: Mapping[str, Any]) -> None:
        """Accept the run, with the whole request."""
        if self.request is not None:
            raise NotAllowed(f"run {self.id} is accepted already")
        self._run_accepted(request=to_json_values(request))

    def intend(self, stage: RunState, attempt: int, detail: Mapping[str, Any]) -> None:
        """Enter ``stage``, before acting there. The same intent is recorded once."""
        if stage.is_terminal or stage is RunState.ACCEPTED:
            raise NotAllowed(f"{stage} is not a stage that a step can enter")
        self._check_going_on()
        self._check_attempt(attempt)
        check_transition(self.state, stage)
        tried = self.attempts.get(self.attempt)
        if tried is not None and tried.job_id is not None and stage.order <= RunState.SUBMITTING.order:
            raise NotAllowed(f"attempt {self.attempt} is job {tried.job_id} already: going back takes a new attempt")
        intended = to_json_values(detail)
        now = self.intents.get(stage)
        if self.state is stage and now is not None and now.attempt == attempt and now.detail == intended:
            return
        self._stage_intended(stage=stage.value, attempt=attempt, detail=intended)

    def complete(self, stage: RunState, attempt: int, outcome: Mapping[str, Any]) -> None:
        """Close the open intent of ``stage``. A repeated completion is recorded once."""
        self._check_not_ended()
        self._check_attempt(attempt)
        if stage not in self.intents:
            if stage in self.outcomes:
                return
            raise NotAllowed(f"run {self.id} has not entered {stage}")
        self._stage_completed(stage=stage.value, attempt=attempt, outcome=to_json_values(outcome))

    def begin_attempt(self, number: int, name: str, excluded_nodes: list[str], tasks: Iterable[int] = ()) -> None:
        """Replace the attempt before, if any, by a new one that enters the transfer, in one commit.

        ``tasks`` are those of an array, for a run that is split.
        """
        if number == self.attempt and self.attempts[number].name == name:
            return
        self._check_going_on()
        if number != self.attempt + 1:
            raise StaleAttempt(f"attempt {number} cannot follow attempt {self.attempt}")
        check_transition(self.state, RunState.TRANSFERRING)
        listed = ranges.format_ranges(tasks)
        self._attempt_started(number=number, name=name, excluded_nodes=list(excluded_nodes), tasks=listed)
        self._stage_intended(stage=RunState.TRANSFERRING.value, attempt=number, detail={})

    def submitted(self, attempt: int, job_id: int) -> None:
        """Record that the scheduler accepted the attempt's job. An attempt has at most one job."""
        self._check_not_ended()
        self._check_attempt(attempt)
        known = self.attempts[attempt].job_id if attempt in self.attempts else None
        if known == job_id:
            return
        if known is not None:
            raise NotAllowed(f"attempt {attempt} is job {known} already, it cannot be job {job_id} too")
        if self.state is not RunState.SUBMITTING or attempt not in self.attempts:
            raise NotAllowed(f"a run that is {self.state} has nothing to submit")
        self._job_submitted(attempt=attempt, job_id=job_id)

    def chunks_sent(self, attempt: int, chunks: Iterable[int], outcome: Mapping[str, Any]) -> None:
        """Record that chunks are on the cluster and their tasks released; of each chunk once."""
        self._check_not_ended()
        self._check_attempt(attempt)
        tried = self.attempts.get(attempt)
        if tried is None or tried.job_id is None or self.state not in (RunState.QUEUED, RunState.RUNNING):
            raise NotAllowed(f"a run that is {self.state} takes no more chunks")
        if new := set(chunks).intersection(tried.unreleased):
            self._chunks_sent(attempt=attempt, chunks=ranges.format_ranges(new), outcome=to_json_values(outcome))

    def observe(self, attempt: int, status: JobStatus) -> bool:
        """Record the scheduler's answer about the attempt's job, if it is new; return whether it is."""
        if self.state.is_terminal or attempt != self.attempt or attempt not in self.attempts:
            return False
        status = replace(status, progress=whole_percent(status.progress))
        last = self.attempts[attempt].observation
        if last is not None:
            status = replace(status, progress=last.progress if status.progress is None else status.progress)
            # an answer after failed queries is new even if it repeats the last one: it ends their series
            failed_queries = any(fault.stage not in STREAMING_STAGES for fault in self._consecutive_faults)
            if last.observation() == status.observation() and not failed_queries:
                return False
        self._job_observed(
            attempt=attempt,
            state=status.state.name,
            raw_state=status.raw_state,
            reason=status.reason,
            node=status.node,
            progress=status.progress,
        )
        return True

    def fault(
        self, stage: RunState, attempt: int, *, kind: str, message: str, detail: str, hint: str,
        retry_at: datetime | None,
    ) -> None:  # fmt: skip
        """Record a fault, and when its step is tried again."""
        self._check_not_ended()
        self._check_attempt(attempt)
        self._fault_met(
            stage=stage.value, attempt=attempt, kind=kind, message=message, detail=detail, hint=hint, retry_at=retry_at
        )

    def pause(self, reason: str, stage: RunState) -> None:
        """Take no further step until a person calls `resume`. A run with a cancel request is not paused."""
        self._check_not_ended()
        if not self.paused and not self.cancel_requested:
            self._run_paused(reason=reason, stage=stage.value)

    def resume(self) -> None:
        """Continue with the same step, with a new retry budget."""
        self._check_not_ended()
        if self.paused:
            self._run_resumed()

    def request_cancel(self, by: str) -> None:
        """Request the end of the run. A paused run is not paused any more: only its cancel is left to do."""
        self._check_not_ended()
        if not self.cancel_requested:
            self._cancel_requested(by=by)

    def end(self, state: RunState, report: Mapping[str, Any]) -> None:
        """Record the one terminal event. A second one raises AlreadyEnded."""
        check_transition(self.state, state)
        recorded = to_json_values(report)
        match state:
            case RunState.DONE:
                self.complete_workflow(summary=recorded)
            case RunState.FAILED:
                self.fail_workflow(error_message=str(recorded.get("message", "failed")), report=recorded)
            case RunState.CANCELLED:
                message = str(recorded.get("message", "cancelled"))
                self._run_cancelled(report=recorded, error_message=message)
            case _:
                raise NotAllowed(f"{state} is not a terminal state")

    # -- events of existing databases ---------------------------------------------------------------------------------

    @event("TaskAdded", topic=f"{TOPIC}.TaskAdded")
    def add_task(self, task_id: UUID) -> None:
        """Record that a task belongs to the run."""
        self.tasks.append(task_id)

    @event("WorkflowStarted", topic=f"{TOPIC}.WorkflowStarted")
    def start_workflow(self) -> None:
        """Record that another program started the run."""
        if self.request is None and not self.state.is_terminal:
            self.state = RunState.RUNNING

    @event("WorkflowCompleted", topic=f"{TOPIC}.WorkflowCompleted")
    def complete_workflow(self, summary: dict[str, Any] = {}) -> None:  # noqa: B006  (older events have none)
        """Record that the run succeeded."""
        self._ended(RunState.DONE, summary)

    @event("WorkflowFailed", topic=f"{TOPIC}.WorkflowFailed")
    def fail_workflow(self, error_message: str, report: dict[str, Any] = {}) -> None:  # noqa: B006  (older events have none)
        """Record that the run failed."""
        self._ended(RunState.FAILED, report or {"message": error_message})

    # -- our events ---------------------------------------------------------------------------------------------------

    @event("RunAccepted", topic=f"{TOPIC}.RunAccepted")
    def _run_accepted(self, request: dict[str, Any]) -> None:
        self.request = request

    @event("StageIntended", topic=f"{TOPIC}.StageIntended")
    def _stage_intended(
        self, stage: str, attempt: int, detail: dict[str, Any], timestamp: datetime | None = None
    ) -> None:
        entered = RunState(stage)
        assert timestamp is not None
        intent = Intent(entered, attempt, timestamp, detail)
        if entered is not self.state:
            self._consecutive_faults = []
        self.state = entered
        self.intents = {entered: intent}  # a run does one thing at a time
        self._latest_intents[entered] = intent
        self.outcomes = {done: outcome for done, outcome in self.outcomes.items() if done.order < entered.order}

    @event("StageCompleted", topic=f"{TOPIC}.StageCompleted")
    def _stage_completed(self, stage: str, attempt: int, outcome: dict[str, Any]) -> None:
        done = RunState(stage)
        self.intents.pop(done, None)
        self.outcomes[done] = outcome
        self._consecutive_faults = []
        if attempt in self.attempts and done is RunState.TRANSFERRING:
            preloaded = frozenset(ranges.parse_ranges(str(outcome.get("chunks", ""))))
            self.attempts[attempt] = replace(self.attempts[attempt], preloaded=preloaded)
        if attempt in self.attempts and done is RunState.FETCHING:
            self.attempts[attempt] = replace(self.attempts[attempt], verdicts=outcome.get("tasks") or {})

    @event("AttemptStarted", topic=f"{TOPIC}.AttemptStarted")
    def _attempt_started(
        self, number: int, name: str, excluded_nodes: list[str], tasks: str = "", timestamp: datetime | None = None
    ) -> None:
        assert timestamp is not None
        self.attempt = number
        self.attempts[number] = Attempt(
            number, name, timestamp, tuple(excluded_nodes), tasks=ranges.parse_ranges(tasks)
        )

    @event("JobSubmitted", topic=f"{TOPIC}.JobSubmitted")
    def _job_submitted(self, attempt: int, job_id: int, timestamp: datetime | None = None) -> None:
        self.attempts[attempt] = replace(self.attempts[attempt], job_id=job_id, submitted=timestamp)
        self.state = RunState.QUEUED
        self.intents.pop(RunState.SUBMITTING, None)
        self.outcomes[RunState.SUBMITTING] = {"job_id": job_id}
        self._consecutive_faults = []

    @event("ChunksSent", topic=f"{TOPIC}.ChunksSent")
    def _chunks_sent(self, attempt: int, chunks: str, outcome: dict[str, Any]) -> None:
        before = self.attempts[attempt]
        self.attempts[attempt] = replace(before, released=before.released.union(ranges.parse_ranges(chunks)))
        self._consecutive_faults = [fault for fault in self._consecutive_faults if fault.stage not in STREAMING_STAGES]

    @event("JobObserved", topic=f"{TOPIC}.JobObserved")
    def _job_observed(
        self, attempt: int, state: str, raw_state: str, reason: str, node: str, progress: str | None,
        timestamp: datetime | None = None,
    ) -> None:  # fmt: skip
        assert timestamp is not None
        before = self.attempts[attempt]
        recorded = {"state": state, "raw_state": raw_state, "reason": reason, "node": node, "progress": progress}
        seen = JobStatus.from_event(recorded, before.name)
        unknown_since = (before.unknown_since or timestamp) if seen.state is JobState.UNKNOWN else None
        self.attempts[attempt] = replace(before, observation=seen, observed=timestamp, unknown_since=unknown_since)
        self.state = after_observation(self.state, seen.state.name)
        # an observation of the job ends a series of failed queries, but not one of failed transfers
        self._consecutive_faults = [fault for fault in self._consecutive_faults if fault.stage in STREAMING_STAGES]

    @event("FaultMet", topic=f"{TOPIC}.FaultMet")
    def _fault_met(
        self, stage: str, attempt: int, kind: str, message: str, detail: str, hint: str, retry_at: datetime | None,
        timestamp: datetime | None = None,
    ) -> None:  # fmt: skip
        assert timestamp is not None
        met = FaultRecord(RunState(stage), attempt, kind, message, detail, hint, retry_at, timestamp)
        earlier = self._consecutive_faults  # the first one has the start of the series, their number its length
        self._consecutive_faults = [*earlier[:1], *earlier[1:][2 - FAULTS_KEPT :], met]
        self.faults = [*self.faults, met][-FAULTS_KEPT:]

    @event("RunPaused", topic=f"{TOPIC}.RunPaused")
    def _run_paused(self, reason: str, stage: str) -> None:
        self.paused, self.pause_reason = True, reason

    @event("RunResumed", topic=f"{TOPIC}.RunResumed")
    def _run_resumed(self) -> None:
        self.paused, self.pause_reason = False, ""
        self._consecutive_faults = []

    @event("CancelRequested", topic=f"{TOPIC}.CancelRequested")
    def _cancel_requested(self, by: str) -> None:
        self.cancel_requested, self.cancelled_by = True, by
        self.cancelled_in_import = self.state is RunState.IMPORTING
        self.paused, self.pause_reason = False, ""
        self._consecutive_faults = []

    @event("RunCancelled", topic=f"{TOPIC}.RunCancelled")
    def _run_cancelled(self, report: dict[str, Any], error_message: str = "") -> None:  # older events have none
        self._ended(RunState.CANCELLED, report)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _ended(self, state: RunState, report: dict[str, Any]) -> None:
        if self.request is not None and self.state.is_terminal:
            return  # this program writes no second end; of another program's ends the first one counts
        self.state = state
        self.report = dict(report)
        self.paused, self.pause_reason = False, ""
        self.intents = {}

    def _check_not_ended(self) -> None:
        if self.state.is_terminal:
            raise AlreadyEnded(f"run {self.id} is {self.state} already")

    def _check_going_on(self) -> None:
        self._check_not_ended()
        if self.paused:
            raise NotAllowed(f"run {self.id} is paused: {self.pause_reason}")

    def _check_attempt(self, attempt: int) -> None:
        """Refuse events of older attempts; 0 stands for what belongs to no attempt, such as the export."""
        if attempt not in (0, self.attempt):
            raise StaleAttempt(f"run {self.id} is at attempt {self.attempt}, not {attempt}")
