"""The WorkflowRun aggregate: what a run may do, decided on its own history alone.

It prevents the loss of the promise itself: two ends of one run, two jobs of one attempt, a word of an attempt that was
given up taken for one of the attempt that replaced it. Commands check, then trigger events; the methods that carry an
event's name in their decorator only apply it, to a live run and to history alike, and so never refuse.
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
from biomeroworker.domain.plan import RunPlan
from biomeroworker.domain.request import RecordedRequest, RunRequest
from biomeroworker.eventlog.aggregates.records import Attempt, FaultRecord, Intent
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

#: Faults that a run remembers by itself; the log has them all.
FAULTS_KEPT = 100
#: What may fail while the job of a run that is split is watched already: the way of its next chunks.
FEEDING = (RunState.EXPORTING, RunState.TRANSFERRING)


class WorkflowRun(Aggregate):
    """One run of a workflow, from its acceptance to its one end.

    A run that another program recorded has no `request` and is not ours to carry; its history shows all the same.
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
        #: Results were on their way home when the end was asked for: some of them may be there.
        self.cancelled_in_import = False
        self.report: dict[str, Any] = {}
        self._latest_intents: dict[RunState, Intent] = {}
        self._consecutive_faults: list[FaultRecord] = []

    # -- what is asked ------------------------------------------------------------------------------------------------

    @property
    def job_ids(self) -> list[int]:
        """The scheduler's numbers of all attempts that were submitted, oldest first."""
        return [attempt.job_id for attempt in self.attempts.values() if attempt.job_id is not None]

    def intent(self, stage: RunState) -> dict[str, Any]:
        """What was last meant to be done at ``stage``; empty when it never began."""
        latest = self._latest_intents.get(stage)
        return dict(latest.detail) if latest else {}

    @property
    def plan(self) -> RunPlan | None:
        """What is run, as it was settled at admission; None before that."""
        recorded = self.intent(RunState.EXPORTING)
        return RunPlan.model_validate(recorded) if recorded else None

    @property
    def cluster(self) -> str:
        """The name of the run's cluster; ``""`` is the cluster without a name, and the value before admission."""
        return self.plan.cluster if self.plan else ""

    @property
    def request_model(self) -> RunRequest:
        """The request of an accepted run, validated.

        Raises
        ------
        pydantic.ValidationError
            This version cannot serve the request, or another program recorded the run and there is none.
        """
        return RunRequest.model_validate(self.request)

    @property
    def recorded_request(self) -> RecordedRequest:
        """The request for readers that must not fail; all fields are empty for a run of another program."""
        return RecordedRequest.model_validate(self.request or {})

    @property
    def workflow(self) -> str:
        """The workflow's name in the configuration; the run's name for a run of another program."""
        return self.recorded_request.workflow or self.name

    @property
    def workflow_version(self) -> str:
        """The version of the image that is used, or, before admission, that was requested; may be empty."""
        return (self.plan.version if self.plan else "") or self.recorded_request.version

    @property
    def chunks(self) -> int:
        """Into how many chunks the run is split; 0 when it is one job."""
        return len(self.attempts[1].tasks) if 1 in self.attempts else 0

    @property
    def good_chunks(self) -> dict[int, int]:
        """The chunks whose results are good, and the attempt that has them."""
        return {
            chunk: attempt.number
            for attempt in self.attempts.values()
            for chunk in ranges.parse_ranges(str(attempt.verdicts.get("good", "")))
        }

    @property
    def failed_chunks(self) -> list[dict[str, Any]]:
        """Why chunks failed for good: ``tasks`` (as `indices.format_ranges`), ``message``, ``hint`` and ``detail``
        each.
        """
        return [dict(failed) for attempt in self.attempts.values() for failed in attempt.verdicts.get("failed", ())]

    def consecutive_faults(self, stage: RunState) -> list[FaultRecord]:
        """Faults at ``stage`` since it was last entered, completed or resumed, oldest first."""
        return [fault for fault in self._consecutive_faults if fault.stage is stage]

    # -- what is commanded --------------------------------------------------------------------------------------------

    def accept(self, request: Mapping[str, Any]) -> None:
        """Take the run on, with the whole request."""
        if self.request is not None:
            raise NotAllowed(f"run {self.id} is accepted already")
        self._run_accepted(request=to_json_values(request))

    def intend(self, stage: RunState, attempt: int, detail: Mapping[str, Any]) -> None:
        """Enter ``stage``, about to act. Meaning the same thing twice is recorded once."""
        if stage.is_terminal or stage is RunState.ACCEPTED:
            raise NotAllowed(f"{stage} is nothing to set out for")
        self._check_going_on()
        self._check_attempt(attempt)
        check_transition(self.state, stage)
        tried = self.attempts.get(self.attempt)
        if tried is not None and tried.job_id is not None and stage.order <= RunState.SUBMITTING.order:
            raise NotAllowed(f"attempt {self.attempt} is job {tried.job_id} already: going back takes a new attempt")
        meant = to_json_values(detail)
        now = self.intents.get(stage)
        if self.state is stage and now is not None and now.attempt == attempt and now.detail == meant:
            return
        self._stage_intended(stage=stage.value, attempt=attempt, detail=meant)

    def complete(self, stage: RunState, attempt: int, outcome: Mapping[str, Any]) -> None:
        """Close the open intent of ``stage``. Completing what is complete is recorded once."""
        self._check_not_ended()
        self._check_attempt(attempt)
        if stage not in self.intents:
            if stage in self.outcomes:
                return
            raise NotAllowed(f"{stage} was never begun")
        self._stage_completed(stage=stage.value, attempt=attempt, outcome=to_json_values(outcome))

    def begin_attempt(self, number: int, name: str, excluded_nodes: list[str], tasks: Iterable[int] = ()) -> None:
        """Give up the attempt before, if any, and set out for the transfer of a new one, in one commit.

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
        """The scheduler took the attempt's job. An attempt has one job, for ever."""
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
        """Chunks are on the cluster and their tasks may begin. Said of the same chunk twice, it is recorded once."""
        self._check_not_ended()
        self._check_attempt(attempt)
        tried = self.attempts.get(attempt)
        if tried is None or tried.job_id is None or self.state not in (RunState.QUEUED, RunState.RUNNING):
            raise NotAllowed(f"a run that is {self.state} is not fed")
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
            failed_queries = any(fault.stage not in FEEDING for fault in self._consecutive_faults)
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
        """Something failed; when it is tried again."""
        self._check_not_ended()
        self._check_attempt(attempt)
        self._fault_met(
            stage=stage.value, attempt=attempt, kind=kind, message=message, detail=detail, hint=hint, retry_at=retry_at
        )

    def pause(self, reason: str, stage: RunState) -> None:
        """Stop before the next step until a person says `resume`. Whose end is asked for waits for nobody."""
        self._check_not_ended()
        if not self.paused and not self.cancel_requested:
            self._run_paused(reason=reason, stage=stage.value)

    def resume(self) -> None:
        """Go on from the same step, with a fresh budget of retries."""
        self._check_not_ended()
        if self.paused:
            self._run_resumed()

    def request_cancel(self, by: str) -> None:
        """Ask for the end. A paused run is no longer paused: there is nothing left to mend."""
        self._check_not_ended()
        if not self.cancel_requested:
            self._cancel_requested(by=by)

    def end(self, state: RunState, report: Mapping[str, Any]) -> None:
        """Record the one terminal event; a second is refused."""
        check_transition(self.state, state)
        told = to_json_values(report)
        match state:
            case RunState.DONE:
                self.complete_workflow(summary=told)
            case RunState.FAILED:
                self.fail_workflow(error_message=str(told.get("message", "failed")), report=told)
            case RunState.CANCELLED:
                self._run_cancelled(report=told)
            case _:
                raise NotAllowed(f"{state} is no end")

    # -- events of existing databases ---------------------------------------------------------------------------------

    @event("TaskAdded", topic=f"{TOPIC}.TaskAdded")
    def add_task(self, task_id: UUID) -> None:
        """Record that a task belongs to the run."""
        self.tasks.append(task_id)

    @event("WorkflowStarted", topic=f"{TOPIC}.WorkflowStarted")
    def start_workflow(self) -> None:
        """Record that another program began to carry the run."""
        if self.request is None and not self.state.is_terminal:
            self.state = RunState.RUNNING

    @event("WorkflowCompleted", topic=f"{TOPIC}.WorkflowCompleted")
    def complete_workflow(self, summary: dict[str, Any] = {}) -> None:  # noqa: B006  (older events carry none)
        """Record the good end."""
        self._ended(RunState.DONE, summary)

    @event("WorkflowFailed", topic=f"{TOPIC}.WorkflowFailed")
    def fail_workflow(self, error_message: str, report: dict[str, Any] = {}) -> None:  # noqa: B006  (older events carry none)
        """Record the bad end."""
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
            ready = frozenset(ranges.parse_ranges(str(outcome.get("chunks", ""))))
            self.attempts[attempt] = replace(self.attempts[attempt], preloaded=ready)
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
        self._consecutive_faults = [fault for fault in self._consecutive_faults if fault.stage not in FEEDING]

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
        self._consecutive_faults = [fault for fault in self._consecutive_faults if fault.stage in FEEDING]

    @event("FaultMet", topic=f"{TOPIC}.FaultMet")
    def _fault_met(
        self, stage: str, attempt: int, kind: str, message: str, detail: str, hint: str, retry_at: datetime | None,
        timestamp: datetime | None = None,
    ) -> None:  # fmt: skip
        assert timestamp is not None
        met = FaultRecord(RunState(stage), attempt, kind, message, detail, hint, retry_at, timestamp)
        earlier = self._consecutive_faults  # the first one says since when, their number how many
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
    def _run_cancelled(self, report: dict[str, Any]) -> None:
        self._ended(RunState.CANCELLED, report)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _ended(self, state: RunState, report: dict[str, Any]) -> None:
        if self.request is not None and self.state.is_terminal:
            return  # never written by us; history is applied as it is, but an end stays the first one
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
        """0 stands for what belongs to no attempt, such as the export."""
        if attempt not in (0, self.attempt):
            raise StaleAttempt(f"run {self.id} is at attempt {self.attempt}, not {attempt}")
