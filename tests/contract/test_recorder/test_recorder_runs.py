"""The contract of the event log for one run, with each database."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from biomeroworker.errors import ConfigError, RequestRejected, Transient, classify
from biomeroworker.eventlog.runlog import AlreadyEnded, NoSuchRun, NotAllowed, RunLog, RunState, StaleAttempt
from tests.log_steps import REQUEST, accept, bring_to, newest, rows, see, walk


def test_another_process_reads_an_accepted_run_with_its_whole_request(log: RunLog, log_url: str) -> None:
    run = accept(log)
    with RunLog.open(log_url) as other:
        seen = other.run(run)
        assert seen.request == REQUEST
        assert (seen.state, seen.attempt, seen.user, seen.group) == (RunState.ACCEPTED, 0, 4, 3)
        assert other.unfinished() == [run]


def test_a_repeated_accept_after_a_lost_answer_creates_one_run(log: RunLog) -> None:
    chosen = uuid4()
    assert accept(log) != accept(log)
    for _ in range(2):
        assert log.accept(REQUEST, name="n", description="d", user=4, group=3, run_id=chosen) == chosen
    assert log.unfinished().count(chosen) == 1
    with pytest.raises(NotAllowed):
        log.accept(REQUEST | {"workflow": "other"}, name="n", description="d", user=4, group=3, run_id=chosen)


def test_a_run_is_read_back_as_recorded(log: RunLog, log_url: str) -> None:
    run = accept(log)
    for state in walk(log, run):
        assert log.run(run).state is state
        assert log.runs()[0].state is state, "the read table agrees with the events"
    with RunLog.open(log_url) as other:  # nothing cached
        seen = other.run(run)
    assert seen.state is RunState.DONE
    assert seen.report == {"made": {"Image": 1}}
    assert seen.job_ids == [101]
    assert seen.attempts[1].name == f"biomero-{run}-1"
    assert seen.outcomes[RunState.EXPORTING] == {"images": 2}
    assert seen.intent(RunState.FETCHING) == {"state": "COMPLETED"}
    assert seen.intents == {}
    assert log.unfinished() == []


def test_an_intent_remains_open_until_its_outcome(log: RunLog) -> None:
    run = accept(log)
    log.intend(run, RunState.EXPORTING, image="nuclei.sif")
    (intent,) = log.run(run).intents.values()
    assert (intent.stage, intent.attempt, intent.detail) == (RunState.EXPORTING, 0, {"image": "nuclei.sif"})
    log.complete(run, RunState.EXPORTING, images=1)
    assert log.run(run).intents == {}


def test_a_repeated_step_is_recorded_once(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    before = newest(log)
    log.submitted(run, 1, 101)
    log.begin_attempt(run, 1, f"biomero-{run}-1")
    log.complete(run, RunState.EXPORTING, images=2, seconds=3.3)
    log.complete(run, RunState.TRANSFERRING, attempt=1, bytes=11)
    assert newest(log) == before

    log.intend(run, RunState.FETCHING, attempt=1, state="UNKNOWN")
    before = newest(log)
    log.intend(run, RunState.FETCHING, attempt=1, state="UNKNOWN")
    assert newest(log) == before


def test_an_unchanged_value_is_not_written(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    assert see(log, run, "RUNNING", node="node-1", progress="43.2")
    before = newest(log)
    assert not see(log, run, "RUNNING", node="node-1", progress="43.9%")
    assert not see(log, run, "RUNNING", node="node-1")
    assert newest(log) == before
    assert see(log, run, "RUNNING", node="node-1", progress="44")
    assert newest(log) > before


def test_an_unchanged_observation_after_faults_is_recorded(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    see(log, run, "RUNNING", node="node-1")
    log.fault(run, RunState.RUNNING, attempt=1, kind="transient", message="no answer")
    assert len(log.run(run).consecutive_faults(RunState.RUNNING)) == 1
    assert see(log, run, "RUNNING", node="node-1")
    assert log.run(run).consecutive_faults(RunState.RUNNING) == []
    assert not see(log, run, "RUNNING", node="node-1")
    assert len(log.run(run).faults) == 1


def test_an_unknown_job_preserves_the_time_of_its_last_known_state(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    assert datetime.now(UTC) - log.run(run).attempts[1].last_known < timedelta(seconds=1)
    see(log, run, "UNKNOWN")
    since = log.run(run).attempts[1].last_known
    see(log, run, "UNKNOWN", reason="slurmdbd is away")
    assert log.run(run).attempts[1].last_known == since
    assert log.run(run).state is RunState.RUNNING, "silence moves nothing"


@pytest.mark.parametrize("first", ["finish", "fail", "cancelled"])
@pytest.mark.parametrize("second", ["finish", "fail", "cancelled"])
def test_a_run_ends_exactly_once(log: RunLog, first: str, second: str) -> None:
    ends = {
        "finish": lambda run: log.finish(run),
        "fail": lambda run: log.fail(run, {"message": "no space"}),
        "cancelled": lambda run: log.cancelled(run, {"message": "by ada"}),
    }
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    ends[first](run)
    state, before = log.run(run).state, newest(log)
    with pytest.raises(AlreadyEnded):
        ends[second](run)
    for step in (
        lambda: log.intend(run, RunState.IMPORTING, attempt=1),
        lambda: log.begin_attempt(run, 2, "again"),
        lambda: log.request_cancel(run, "ada"),
        lambda: log.pause(run, "why", RunState.IMPORTING),
        lambda: log.fault(run, RunState.IMPORTING, attempt=1, kind="permanent", message="late"),
    ):
        with pytest.raises(AlreadyEnded):
            step()
    assert not see(log, run, "RUNNING")
    assert (log.run(run).state, newest(log)) == (state, before)


def test_an_end_closes_every_task_of_the_run(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    log.fail(run, {"message": "the container ended with 3", "stage": "running"})
    tasks = {row["task_name"]: row for row in rows(log)["biomero_task_execution"]}
    assert (tasks["nuclei"]["status"], tasks["nuclei"]["error_type"]) == ("FAILED", "the container ended with 3")
    assert tasks["_SLURM_Image_Transfer.py"]["status"] == "COMPLETED"
    assert all(row["end_time"] is not None for row in tasks.values())
    assert log.runs()[0].message == "the container ended with 3"


def test_an_event_of_an_abandoned_attempt_is_refused(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    log.fault(run, RunState.RUNNING, attempt=1, kind="nodefault", message="/project is not mounted on node-1")
    log.begin_attempt(run, 2, f"biomero-{run}-2", excluded_nodes=["node-1"])
    before = newest(log)
    with pytest.raises(StaleAttempt):
        log.submitted(run, 1, 999)
    with pytest.raises(StaleAttempt):
        log.intend(run, RunState.FETCHING, attempt=1)
    with pytest.raises(StaleAttempt):
        log.begin_attempt(run, 1, f"biomero-{run}-1")
    assert not see(log, run, "COMPLETED", attempt=1)
    assert newest(log) == before
    seen = log.run(run)
    assert (seen.state, seen.attempt) == (RunState.TRANSFERRING, 2)
    assert seen.attempts[2].excluded_nodes == ("node-1",)
    assert RunState.SUBMITTING not in seen.outcomes, "the new attempt has not been submitted"
    assert seen.outcomes[RunState.EXPORTING] == {"images": 2}, "the export serves every attempt"
    failed = {row["error_type"] for row in rows(log)["biomero_task_execution"] if row["status"] == "FAILED"}
    assert failed == {"/project is not mounted on node-1"}


def test_an_attempt_has_one_job(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    with pytest.raises(NotAllowed):
        log.submitted(run, 1, 102)
    with pytest.raises(NotAllowed, match="takes a new attempt"):
        log.intend(run, RunState.TRANSFERRING, attempt=1)
    assert log.run(run).job_ids == [101]


def test_a_submission_before_the_first_attempt_is_refused(log: RunLog) -> None:
    run = accept(log)
    with pytest.raises(NotAllowed):
        log.submitted(run, 0, 101)


def test_a_state_that_cannot_follow_is_refused(log: RunLog) -> None:
    run = accept(log)
    for stage in (RunState.IMPORTING, RunState.SUBMITTING, RunState.DONE, RunState.ACCEPTED):
        with pytest.raises(NotAllowed):
            log.intend(run, stage)
    with pytest.raises(NotAllowed):
        log.complete(run, RunState.EXPORTING)
    assert log.run(run).state is RunState.ACCEPTED


def test_a_resumed_run_continues_from_the_same_step(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.FETCHING)
    log.fault(run, RunState.FETCHING, attempt=1, kind="blocked", message="no space", hint="free some")
    log.pause(run, "no space on this machine", RunState.FETCHING)
    seen, line = log.run(run), log.runs()[0]
    assert (seen.paused, seen.pause_reason, seen.state) == (True, "no space on this machine", RunState.FETCHING)
    assert (line.paused, line.state) == (True, RunState.FETCHING)
    assert log.unfinished() == [run]
    with pytest.raises(NotAllowed):
        log.intend(run, RunState.IMPORTING, attempt=1)
    log.resume(run)
    seen = log.run(run)
    assert (seen.paused, seen.state, seen.consecutive_faults(RunState.FETCHING)) == (False, RunState.FETCHING, [])
    assert seen.intents[RunState.FETCHING].attempt == 1


def test_a_paused_run_can_be_cancelled_without_a_fix(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    log.pause(run, "denied", RunState.EXPORTING)
    log.request_cancel(run, "ada")
    log.request_cancel(run, "ada again")
    seen = log.run(run)
    assert (seen.cancel_requested, seen.cancelled_by, seen.paused) == (True, "ada", False)
    log.cancelled(run, {"message": "cancelled by ada"})
    assert log.runs()[0].state is RunState.CANCELLED


def test_consecutive_faults_are_those_of_one_stage_since_it_was_entered(log: RunLog) -> None:
    run = accept(log)
    retry_at = datetime(2026, 1, 1, tzinfo=UTC)
    bring_to(log, run, RunState.EXPORTING)
    for number in range(3):
        log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=f"fault {number}", retry_at=retry_at)
    row = log.run(run).consecutive_faults(RunState.EXPORTING)
    assert [fault.message for fault in row] == ["fault 0", "fault 1", "fault 2"]
    assert row[0].retry_at == retry_at
    assert row[0].when <= row[2].when
    log.complete(run, RunState.EXPORTING)
    log.begin_attempt(run, 1, "a")
    assert log.run(run).consecutive_faults(RunState.EXPORTING) == []
    assert len(log.run(run).faults) == 3


@pytest.mark.parametrize(
    "request_",
    [
        {"password": "hunter2"},
        {"inputs": {"omeroSessionToken": "abc"}},
        {"inputs": [{"api_key": "abc"}]},
        {"inputs": {"from": "https://ada:hunter2@host/x"}},
    ],
)
def test_no_secret_is_written_to_the_log(log: RunLog, request_: dict[str, object]) -> None:
    with pytest.raises(RequestRejected):
        log.accept(request_, name="n", description="d", user=1, group=1)
    assert newest(log) == 0


def test_passwords_in_messages_are_masked(log: RunLog) -> None:
    run = accept(log)
    message = "cannot reach postgresql://ada:hunter2@db/x"
    log.fault(run, RunState.ACCEPTED, attempt=0, kind="transient", message=message, detail=message)
    log.fail(run, {"message": message})
    assert "hunter2" not in str([event.attributes for event in log.events(run)]) + str(rows(log))


def test_events_of_a_run_and_its_tasks_are_listed_in_order(log: RunLog) -> None:
    run = accept(log)
    other = accept(log)
    bring_to(log, run, RunState.DONE)
    events = log.events(run)
    assert [event.number for event in events] == sorted(event.number for event in events)
    assert [event.name for event in events][:2] == ["WorkflowInitiated", "RunAccepted"]
    assert events[-1].name == "WorkflowCompleted"
    assert {event.subject for event in events if event.aggregate == "Task"} == set(log.run(run).tasks)
    assert other not in {event.subject for event in events}
    assert all(event.time.tzinfo is not None for event in events)
    assert events[1].attributes["request"] == REQUEST


def test_runs_are_listed_newest_first_and_filtered(log: RunLog) -> None:
    first = log.accept(REQUEST, name="a", description="", user=1, group=10)
    second = log.accept(REQUEST | {"workflow": "spots"}, name="b", description="", user=2, group=10)
    third = log.accept(REQUEST, name="c", description="", user=1, group=11)
    log.fail(second, {"message": "no"})
    assert [line.id for line in log.runs()] == [third, second, first]
    assert [line.id for line in log.runs(user=1)] == [third, first]
    assert [line.id for line in log.runs(group=10, state=RunState.ACCEPTED)] == [first]
    assert [line.id for line in log.runs(limit=1)] == [third]
    assert log.runs(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert len(log.runs(since=datetime.now(UTC) - timedelta(minutes=1))) == 3
    assert log.runs(state="failed")[0].workflow == "spots"
    assert log.unfinished() == [first, third]


def test_an_unknown_run_id_raises(log: RunLog) -> None:
    with pytest.raises(NoSuchRun):
        log.run(uuid4())
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    with pytest.raises(NoSuchRun):
        log.run(log.run(run).tasks[0])


def test_changes_to_a_run_object_do_not_reach_the_log(log: RunLog) -> None:
    run = accept(log)
    log.run(run).faults.append(None)  # type: ignore[arg-type]
    log.run(run).intend(RunState.EXPORTING, 0, {})
    assert (log.run(run).faults, log.run(run).state) == ([], RunState.ACCEPTED)


def test_only_one_supervisor_leases_a_run(log: RunLog, log_url: str) -> None:
    run = accept(log)
    with RunLog.open(log_url) as other:
        assert log.leases.acquire("one", 60) == {run}
        assert other.leases.acquire("two", 60) == set()
        assert log.leases.acquire("one", 60) == set(), "a lease that is held is not acquired again"
        assert log.leases.renew("one", 60) == {run}
        other.leases.release(run, "two")
        assert other.leases.acquire("two", 60) == set(), "released by its holder alone"
        log.leases.release(run, "one")
        assert other.leases.acquire("two", -1) == {run}
        assert log.leases.acquire("one", 60) == {run}, "an expired lease is free"
        assert other.leases.renew("two", 60) == set(), "and lost for who held it"


def test_runs_that_must_not_execute_are_not_leased(log: RunLog) -> None:
    paused, ended, other, wanted = (accept(log) for _ in range(4))
    log.pause(paused, "disk full", RunState.ACCEPTED)
    log.fail(ended, {"message": "no such dataset"})
    assert log.leases.acquire("one", 60, only=wanted) == {wanted}
    assert log.leases.acquire("one", 60) == {other}
    log.resume(paused)
    assert log.leases.acquire("one", 60) == {paused}
    log.leases.release_all("one")
    assert log.leases.acquire("two", 60) == {paused, other, wanted}


def test_a_cancel_request_is_listed(log: RunLog) -> None:
    one, other = accept(log), accept(log)
    log.request_cancel(one, "Ada")
    assert log.cancel_requests([one, other]) == [one]
    assert log.cancel_requests([other]) == []


def test_threads_may_share_a_log(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)

    def work(number: int) -> None:
        for step in range(10):
            log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=f"{number}/{step}")
            assert any(fault.message == f"{number}/{step}" for fault in log.run(run).faults)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result(60)
    messages = Counter(event.attributes["message"] for event in log.events(run) if event.name == "FaultMet")
    assert messages == Counter(f"{number}/{step}" for number in range(4) for step in range(10))


@pytest.mark.sandbox
def test_a_restarted_database_server_causes_no_error(postgres_url: str) -> None:
    with RunLog.open(postgres_url) as log:
        run = accept(log)
        others = create_engine(postgres_url)
        with others.connect() as connection:
            query = """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid != pg_backend_pid()
            """
            assert connection.execute(text(query)).all(), "the log's connection was cut"
        others.dispose()
        log.intend(run, RunState.EXPORTING)
        assert log.run(run).state is RunState.EXPORTING


def test_an_unreachable_database_is_transient() -> None:
    with pytest.raises(OperationalError) as away:
        RunLog.open("postgresql+psycopg2://ada:hunter2@127.0.0.1:9/log")
    fault = classify(away.value)
    assert isinstance(fault, Transient)
    assert "hunter2" not in str(fault)


@pytest.mark.parametrize("url", ["mysql://ada:hunter2@db/x", "nonsense"])
def test_an_unsupported_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RunLog.open(url)
    assert "hunter2" not in str(refused.value)


def test_times_in_states_add_up_to_the_duration_of_the_run(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.DONE)
    durations = log.time_in_states(run)
    passed = [state for state in RunState if not state.is_terminal]
    assert list(durations) == passed
    events = [event for event in log.events(run) if event.subject == run]
    life = (events[-1].time - events[0].time).total_seconds()
    assert sum(durations.values()) == pytest.approx(life, abs=0.001 * len(passed))


def test_the_time_in_the_current_state_counts_until_now(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.QUEUED)
    first = log.time_in_states(run)[RunState.QUEUED]
    time.sleep(0.05)
    assert log.time_in_states(run)[RunState.QUEUED] - first >= 0.04
