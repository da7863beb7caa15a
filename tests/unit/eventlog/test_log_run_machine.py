"""For any commands in any order: a run has one end, an attempt has one job, and the events give the same run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eventsourcing.domain import datetime_now_with_tzinfo
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, UUIDAsHex
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from biomeroworker.domain import ranges
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import TRANSITIONS, NotAllowed, RunState
from biomeroworker.eventlog.mapper import SharedLogMapper

STAGES = st.sampled_from(list(RunState))
ATTEMPTS = st.integers(0, 3)
JOB_STATES = st.sampled_from(["PENDING", "RUNNING", "UNKNOWN", "COMPLETED", "NODE_FAIL"])
TASKS = st.sets(st.integers(0, 3))
DETAILS = st.dictionaries(st.sampled_from("ab"), st.integers(0, 1) | st.text(max_size=2), max_size=2)


def _mapper() -> SharedLogMapper:
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    return SharedLogMapper(transcoder)


class ARun(RuleBasedStateMachine):
    """Commands come as they like; refusals are fine, contradictions are not."""

    @initialize()
    def accepted(self) -> None:
        self.mapper = _mapper()
        self.run = WorkflowRun(name="n", description="d", user=1, group=2)
        self.run.accept({"workflow": "w"})
        self.stored: list[Any] = []
        self.passed = [self.run.state]
        self.collect()

    def collect(self) -> None:
        self.stored += [self.mapper.to_stored_event(event) for event in self.run.collect_events()]
        if self.run.state is not self.passed[-1]:
            self.passed.append(self.run.state)

    def events(self, name: str) -> list[Any]:
        """The recorded events of one class."""
        events = [self.mapper.to_domain_event(stored) for stored in self.stored]
        return [event for event in events if type(event).__name__ == name]

    def command(self, change: Any) -> None:
        before = len(self.stored)
        try:
            change()
        except NotAllowed:
            assert not self.run.pending_events, "a refusal leaves nothing behind"
            assert len(self.stored) == before
        self.collect()

    @rule(stage=STAGES, attempt=ATTEMPTS, detail=DETAILS)
    def intend(self, stage: RunState, attempt: int, detail: dict[str, Any]) -> None:
        self.command(lambda: self.run.intend(stage, attempt, detail))

    @rule(ahead=st.integers(1, 3), detail=DETAILS)
    def go_on(self, ahead: int, detail: dict[str, Any]) -> None:
        """Most random commands are refused; this one goes the way of a run."""
        stage = list(RunState)[min(self.run.state.order + ahead, RunState.IMPORTING.order)]
        self.command(lambda: self.run.intend(stage, self.run.attempt, detail))

    @rule(stage=STAGES, attempt=ATTEMPTS, outcome=DETAILS)
    def complete(self, stage: RunState, attempt: int, outcome: dict[str, Any]) -> None:
        self.command(lambda: self.run.complete(stage, attempt, outcome))

    @rule(ahead=st.integers(-1, 2), name=st.sampled_from("xy"), tasks=TASKS)
    def begin_attempt(self, ahead: int, name: str, tasks: set[int]) -> None:
        number = max(1, self.run.attempt + ahead)
        self.command(lambda: self.run.begin_attempt(number, f"{name}-{number}", [], tasks))

    @rule(behind=st.integers(0, 1), ready=TASKS)
    def transferred(self, behind: int, ready: set[int]) -> None:
        outcome = {"chunks": ranges.format_ranges(ready)}
        self.command(lambda: self.run.complete(RunState.TRANSFERRING, self.run.attempt - behind, outcome))

    @rule(behind=st.integers(0, 1), chunks=TASKS)
    def chunks_sent(self, behind: int, chunks: set[int]) -> None:
        self.command(lambda: self.run.chunks_sent(self.run.attempt - behind, chunks, {}))

    @rule(behind=st.integers(0, 1), good=TASKS)
    def judged(self, behind: int, good: set[int]) -> None:
        outcome = {"tasks": {"good": ranges.format_ranges(good), "lost": "", "failed": []}}
        self.command(lambda: self.run.complete(RunState.FETCHING, self.run.attempt - behind, outcome))

    @rule(behind=st.integers(0, 1), job=st.integers(1, 3))
    def submitted(self, behind: int, job: int) -> None:
        attempt = self.run.attempt - behind
        if attempt >= 1:
            self.command(lambda: self.run.submitted(attempt, job))

    @rule(behind=st.integers(0, 1), state=JOB_STATES, progress=st.none() | st.integers(0, 100))
    def observe(self, behind: int, state: str, progress: int | None) -> None:
        attempt = self.run.attempt - behind
        status = JobStatus("", -1, JobState[state], state, progress=None if progress is None else str(progress))
        self.command(lambda: self.run.observe(attempt, status))

    @rule(stage=STAGES, attempt=ATTEMPTS, later=st.booleans())
    def fault(self, stage: RunState, attempt: int, later: bool) -> None:
        retry_at = datetime_now_with_tzinfo() if later else None
        self.command(
            lambda: self.run.fault(stage, attempt, kind="k", message="m", detail="", hint="", retry_at=retry_at)
        )

    @rule(stage=STAGES)
    def pause(self, stage: RunState) -> None:
        self.command(lambda: self.run.pause("why", stage))

    @rule()
    def resume(self) -> None:
        self.command(self.run.resume)

    @rule()
    def cancel(self) -> None:
        self.command(lambda: self.run.request_cancel("ada"))

    @rule(state=STAGES, really=st.integers(0, 9))
    def end(self, state: RunState, really: int) -> None:
        if really == 0:
            self.command(lambda: self.run.end(state, {"message": "m"}))

    @invariant()
    def one_end(self) -> None:
        ends = [e for e in self.stored if e.topic.endswith(("WorkflowCompleted", "WorkflowFailed"))]
        assert len(ends) == self.run.state.is_terminal
        if ends:
            assert self.stored[-1] is ends[0], "nothing is recorded after the end"

    @invariant()
    def one_job_for_each_attempt(self) -> None:
        submitted = Counter(event.attempt for event in self.events("JobSubmitted"))
        assert all(count == 1 for count in submitted.values())

    @invariant()
    def no_chunk_is_let_go_twice(self) -> None:
        for number in self.run.attempts:
            events = [event for event in self.events("ChunksSent") if event.attempt == number]
            sent = [chunk for event in events for chunk in ranges.parse_ranges(event.chunks)]
            assert len(sent) == len(set(sent))
            assert set(sent) == self.run.attempts[number].released <= set(self.run.attempts[number].tasks)

    @invariant()
    def allowed_steps_only(self) -> None:
        for now, then in zip(self.passed, self.passed[1:], strict=False):
            assert then.is_terminal or then in TRANSITIONS[now], (now, then)

    @invariant()
    def replayed_events_give_the_same_run(self) -> None:
        again: Any = None
        for event in self.stored:
            again = self.mapper.to_domain_event(event).mutate(again)  # type: ignore[attr-defined]
        live, replayed = dict(vars(self.run)), dict(vars(again))
        assert replayed == live


TestARun = ARun.TestCase
TestARun.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
