"""Events are stored so that biomero can read them, and are read as what they are."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from eventsourcing.persistence import DatetimeAsISO, JSONTranscoder, StoredEvent, UUIDAsHex

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.mapper import EVENT_NAME, SharedLogMapper, UnknownEvent, class_topic, stored_topic

RUN, TASK = "biomero.eventsourcing:WorkflowRun", "biomero.eventsourcing:Task"


@pytest.fixture
def mapper() -> SharedLogMapper:
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    return SharedLogMapper(transcoder)


def events_of_a_run() -> list[Any]:
    run = WorkflowRun(name="n", description="d", user=1, group=2)
    run.accept({"workflow": "w"})
    run.intend(RunState.EXPORTING, 0, {})
    run.begin_attempt(1, "job", [])
    run.intend(RunState.SUBMITTING, 1, {})
    run.submitted(1, 7)
    run.observe(1, JobStatus("", -1, JobState.RUNNING, "RUNNING"))
    run.request_cancel("ada")
    run.end(RunState.CANCELLED, {"message": "cancelled by ada"})
    return list(run.collect_events())


def test_each_event_is_stored_with_a_topic_of_biomero_and_read_as_its_own_class(mapper: SharedLogMapper) -> None:
    events = events_of_a_run()
    stored = [mapper.to_stored_event(event) for event in events]
    assert {one.topic for one in stored} == {f"{RUN}.WorkflowInitiated", f"{RUN}.Event", f"{RUN}.WorkflowFailed"}
    again = [mapper.to_domain_event(one) for one in stored]
    assert [(type(event), vars(event)) for event in again] == [(type(event), vars(event)) for event in events]


def test_biomero_reads_a_cancelled_run_as_a_failed_run(mapper: SharedLogMapper) -> None:
    *_, cancelled = (mapper.to_stored_event(event) for event in events_of_a_run())
    state = json.loads(cancelled.state)
    assert (cancelled.topic, state[EVENT_NAME]) == (f"{RUN}.WorkflowFailed", "RunCancelled")
    assert state["error_message"] == "cancelled by ada"


@pytest.mark.parametrize("topic", [f"{RUN}.TaskAdded", f"{RUN}.WorkflowFailed", f"{TASK}.JobIdAdded"])
def test_an_event_that_biomero_has_keeps_its_topic(topic: str) -> None:
    assert stored_topic(topic) == topic == class_topic(topic, {})


def test_an_event_of_a_newer_version_is_preserved(mapper: SharedLogMapper) -> None:
    state = b'{"event_name": "FromTheFuture", "detail": 3}'
    event: Any = mapper.to_domain_event(StoredEvent(uuid4(), 5, f"{RUN}.Event", state))
    assert isinstance(event, UnknownEvent)
    assert (event.topic, event.originator_version, event.detail) == (f"{RUN}.FromTheFuture", 5, 3)
