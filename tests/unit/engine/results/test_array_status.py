"""The status of an array: as one job, and task by task."""

from dataclasses import replace

import pytest

from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.engine.results import array_status

NAME = "biomero-1"


def status(state, task, **more):
    return JobStatus(name=NAME, job_id=7, state=state, raw_state=state.name, task=task, **more)


def tallied(*states):
    found = [status(state, task) for task, state in enumerate(states) if state is not JobState.UNKNOWN]
    return array_status.aggregate_array(NAME, array_status.per_task(NAME, found, range(len(states))))


P, R, C, F, U, N = (
    JobState.PENDING, JobState.RUNNING, JobState.COMPLETED, JobState.FAILED, JobState.UNKNOWN, JobState.NODE_FAIL,
)  # fmt: skip


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((P, P), P),
        ((P, U), P),
        ((P, R), R),
        ((P, C), R),
        ((R, U), R),
        ((C, U), U),
        ((U, U), U),
        ((C, C), C),
        ((C, F), F),
        ((N, N), F),
    ],
)
def test_an_array_has_ended_when_all_of_its_tasks_have(states, expected):
    assert tallied(*states).state is expected


def test_the_recorded_line_has_the_number_of_tasks_in_each_state():
    assert tallied(P, R, C, C, N).raw_state == "1 PENDING, 1 RUNNING, 2 COMPLETED, 1 NODE_FAIL"
    assert len(tallied(*[C] * 5000).raw_state) < 20
    assert tallied(U, U).raw_state == "", "the scheduler does not know it"


def test_a_reason_is_recorded_only_if_all_waiting_tasks_have_it():
    held = [status(P, task, reason="JobHeldUser") for task in (0, 1)]
    assert array_status.aggregate_array(NAME, array_status.per_task(NAME, held, (0, 1))).reason == "JobHeldUser"
    mixed = [held[0], replace(held[1], reason="Priority")]
    assert array_status.aggregate_array(NAME, array_status.per_task(NAME, mixed, (0, 1))).reason == ""


def test_a_thousand_tasks_fit_into_an_event_and_are_read_back_one_by_one():
    found = [status(C, task, node=f"n{task % 3}", exit_code=0) for task in range(1000)]
    found[17] = status(F, 17, node="n9", exit_code=77, signal=9)
    tasks = array_status.per_task(NAME, found, range(1001))
    lines = array_status.tasks_to_event(tasks)
    assert len(lines) == 5, "three nodes, one failure, one unknown task"
    again = array_status.tasks_from_event(lines, NAME, range(1001))
    assert {task: (one.state, one.node, one.exit_code, one.signal) for task, one in again.items()} == {
        task: (one.state, one.node, one.exit_code, one.signal) for task, one in tasks.items()
    }
    assert not array_status.is_final(again[0], again)
    assert array_status.is_final(again[0], {task: one for task, one in again.items() if task < 1000})


def test_the_usage_of_an_array_is_a_sum_and_its_memory_that_of_the_largest_task():
    tasks = [status(C, task, elapsed_seconds=10, max_rss_bytes=task * 100) for task in (1, 2, 3)]
    assert array_status.usage(tasks) == {"elapsed_seconds": 30, "max_rss_bytes": 300}


def test_a_job_that_can_never_be_known_again_is_final():
    unrecoverable = JobStatus(name=NAME, job_id=-1, state=U, raw_state="", unrecoverable=True)
    assert array_status.is_final(unrecoverable, {})
    assert JobStatus.from_event(unrecoverable.to_event(), NAME).unrecoverable
    assert not array_status.is_final(JobStatus.unknown(NAME), {})


def test_a_recorded_status_is_the_same_after_a_restart():
    ended = JobStatus(
        NAME, 7, F, "OUT_OF_MEMORY", reason="r", node="n1", exit_code=1, signal=9, cpu_seconds=2.5, gpus=1
    )
    assert JobStatus.from_event(ended.to_event(), NAME) == ended
    seen = JobStatus(NAME, -1, R, "RUNNING", node="n1", progress="43%")
    assert JobStatus.from_event(seen.observation(), NAME) == seen


def test_a_state_that_this_version_does_not_know_counts_as_unknown():
    assert JobStatus.from_event({"state": "PONDERING"}, NAME).state is U
