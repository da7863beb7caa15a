"""What real SLURMs have answered (``tests/data/slurm``), version by version, and what it is read as."""

from pathlib import Path

import pytest

from biomeroworker.cluster.slurm import commands
from biomeroworker.cluster.slurm.scheduler import Limits
from biomeroworker.domain.job_status import JobState, JobStatus, by_task

DATA = Path(__file__).parents[3] / "data" / "slurm"
VERSIONS = sorted(folder.name for folder in DATA.iterdir() if folder.is_dir())


def recorded_statuses(version: str, case: str) -> list[JobStatus]:
    """What is read of a case."""
    answer = commands.parse_status((DATA / version / f"{case}.txt").read_text())
    assert (answer.queue, answer.accounting, answer.errors) == (True, True, "")
    return answer.by_name([f"case-{case}"])[f"case-{case}"]


def one(version: str, case: str) -> JobStatus:
    (status,) = recorded_statuses(version, case)
    return status


@pytest.mark.parametrize(
    ("version", "case", "state", "reason", "code", "signal"),
    [
        ("22.05.8", "done", JobState.COMPLETED, "", 0, None),
        ("22.05.8", "two-nodes", JobState.COMPLETED, "", 0, None),
        ("22.05.8", "exit-42", JobState.FAILED, "NonZeroExitCode", 42, None),
        ("22.05.8", "segmentation-fault", JobState.FAILED, "JobLaunchFailure", 0, 11),
        ("22.05.8", "out-of-memory", JobState.OUT_OF_MEMORY, "OutOfMemory", 0, 125),
        ("22.05.8", "cancelled", JobState.CANCELLED, "Resources", 0, None),
        ("22.05.8", "held", JobState.PENDING, "JobHeldUser", None, None),
        ("22.05.8", "begins-later", JobState.PENDING, "BeginTime", None, None),
        ("22.05.8", "running", JobState.RUNNING, "", None, None),
        ("23.02", "done", JobState.COMPLETED, "", 0, None),
        ("23.11", "cancelled", JobState.CANCELLED, "", 0, None),
        ("23.11", "powering-up", JobState.RUNNING, "", None, None),
        ("24.05", "out-of-memory", JobState.OUT_OF_MEMORY, "OutOfMemory", 0, 125),
        ("24.05", "preempted", JobState.PREEMPTED, "", 0, None),
    ],
)
def test_each_recorded_case_is_parsed_correctly(
    version: str, case: str, state: JobState, reason: str, code: int | None, signal: int | None
) -> None:
    status = one(version, case)
    assert (status.state, status.reason, status.exit_code, status.signal) == (state, reason, code, signal)
    assert status.accounted is state.is_terminal
    assert status.is_held is (case == "held")


@pytest.mark.parametrize(
    ("version", "case", "usage"),
    [
        ("22.05.8", "done",
         {"elapsed_seconds": 2, "cpu_seconds": 0.062, "cpus": 1, "gpus": 1, "max_rss_bytes": 356 << 10}),
        ("22.05.8", "two-nodes",
         {"elapsed_seconds": 20, "cpu_seconds": 0.003, "cpus": 8, "gpus": 4, "max_rss_bytes": 360 << 10}),
        ("22.05.8", "exit-42", {"elapsed_seconds": 0, "cpu_seconds": 0.002, "cpus": 1, "gpus": 0}),
        ("22.05.8", "running", {"elapsed_seconds": 10}),
        ("23.02", "done",
         {"elapsed_seconds": 93784, "cpu_seconds": 216001, "cpus": 8, "gpus": 2, "max_rss_bytes": 32000 << 20}),
        ("23.11", "cancelled",
         {"elapsed_seconds": 12, "cpu_seconds": 3.25, "cpus": 2, "gpus": 0, "max_rss_bytes": 2 << 20}),
        ("24.05", "preempted", {"elapsed_seconds": 30, "cpu_seconds": 20, "cpus": 1, "gpus": 1}),
    ],
)  # fmt: skip
def test_the_resource_usage_of_a_job_is_parsed(version: str, case: str, usage: dict[str, float]) -> None:
    assert one(version, case).usage() == usage


@pytest.mark.parametrize("version", ["22.05.8", "23.11"])
def test_a_refused_submission_is_not_a_job(version: str) -> None:
    assert recorded_statuses(version, "refused") == []


def test_each_task_of_an_array_has_a_status() -> None:
    tasks = by_task(recorded_statuses("22.05.8", "array"), range(1, 11))
    held = [task for task, status in tasks.items() if status and status.is_held]
    ended = {task: status.state for task, status in tasks.items() if status and status.state.is_terminal}
    assert held == [4, 6, 7, 8, 9]
    assert ended == {
        1: JobState.COMPLETED, 2: JobState.COMPLETED, 3: JobState.FAILED, 5: JobState.COMPLETED,
    }  # fmt: skip
    assert tasks[10] is None
    assert tasks[3]
    assert tasks[3].exit_code == 1
    assert tasks[1]
    assert tasks[1].reason == ""


def test_tasks_that_were_cancelled_while_they_waited_are_cancelled_one_by_one() -> None:
    found = recorded_statuses("22.05.8", "array-cancelled")
    assert [(status.task, status.accounted) for status in found] == [
        (None, False), (0, True), (2, True), (4, True), (6, True),
    ]  # fmt: skip
    assert {status.state for status in found} == {JobState.CANCELLED}


def test_tasks_that_accounting_does_not_list_yet_are_cancelled_too() -> None:
    whole = (DATA / "22.05.8" / "array-cancelled.txt").read_text()
    found = commands.parse_status(whole.replace("37_[0,2,4,6]", "37_2")).jobs
    assert {task: status and status.state for task, status in by_task(found, [0, 2]).items()} == {
        0: JobState.CANCELLED, 2: JobState.CANCELLED,
    }  # fmt: skip


def test_a_name_that_accounting_does_not_have_yet_comes_from_squeue() -> None:
    text = (DATA / "22.05.8" / "done.txt").read_text()
    queue, accounting = text.split("[sacct]", 1)
    (status,) = commands.parse_status(f"{queue}[sacct]{accounting.replace('case-done', 'allocation')}").jobs
    assert (status.name, status.accounted) == ("case-done", True)


def test_without_accounting_one_row_counts_for_all_cancelled_tasks() -> None:
    whole = (DATA / "22.05.8" / "array-cancelled.txt").read_text()
    found = commands.parse_status(whole.partition("[sacct]")[0]).jobs
    assert {task: status and status.state for task, status in by_task(found, [0, 2]).items()} == {
        0: JobState.CANCELLED, 2: JobState.CANCELLED,
    }  # fmt: skip


@pytest.mark.parametrize("own_row_first", [True, False])
def test_a_tasks_own_row_wins_over_the_row_of_waiting_tasks(own_row_first: bool) -> None:
    unit = "|00:00.002|1|billing=1"
    own = f"55_2|2026-11-21T06:50:49|0|2:0|{unit}|n1|FAILED|JobHeldUser|biomero-a-1"
    waited = f"55_[2,5%2]|2026-11-21T06:50:49|0|0:0|{unit}|None assigned|CANCELLED by 1002|JobHeldUser|biomero-a-1"
    rows = [own, waited] if own_row_first else [waited, own]
    found = commands.parse_status("[sacct]\n" + "\n".join(rows) + "\n[end 0]\n").jobs
    assert [(job.task, job.state) for job in found] == [(2, JobState.FAILED), (5, JobState.CANCELLED)]


def test_running_waiting_and_ended_tasks_of_a_later_version() -> None:
    assert [(status.task, status.state.name) for status in recorded_statuses("23.02", "array")] == [
        (4, "COMPLETED"), (5, "RUNNING"), (6, "RUNNING"), (7, "PENDING"), (8, "PENDING"), (9, "PENDING"),
    ]  # fmt: skip
    assert recorded_statuses("23.02", "array")[0].max_rss_bytes == 4021436 << 10


def test_two_thousand_held_tasks_are_two_thousand() -> None:
    found = recorded_statuses("24.05", "array-held")
    assert len(found) == 2000
    assert all(status.is_held for status in found)


def test_tasks_held_and_released_in_one_row_are_not_certain() -> None:
    row = "[squeue]\n5|0-3|PENDING|2026-11-21T06:43:43|0:00||JobHeldUser,None|biomero-a-1\n[end 0]\n"
    assert not any(status.is_held for status in commands.parse_status(row).jobs)


@pytest.mark.parametrize(
    ("version", "limits", "tasks"),
    [
        ("22.05.8", Limits(10001, 0, 20000), 10001),
        ("23.02", Limits(1001, 0, 10000), 1001),
        ("23.11", Limits(100001, 1000, 1000000), 1000),
        ("24.05", Limits(0, 0, 50000), 0),
    ],
)
def test_the_sites_limits_are_read(version: str, limits: Limits, tasks: int) -> None:
    found = commands.parse_limits((DATA / version / "config.txt").read_text())
    assert found == limits
    assert found.tasks == tasks


@pytest.mark.parametrize("text", ["", "slurm_load_ctl_conf error: Unable to contact slurm controller", "a = b\n"])
def test_output_without_limits_is_refused(text: str) -> None:
    assert commands.parse_limits(text) is None


def test_tasks_are_released_by_one_list_without_steps() -> None:
    assert commands.release_command("biomero-a-1", [9, 3, 1, 7, 8, 3])[4:] == [
        "biomero-a-1", "1,3,7-9", "1", "3", "7", "8", "9",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at least one task"):
        commands.release_command("biomero-a-1", [])


@pytest.mark.parametrize(
    ("tasks", "limit", "expression"),
    [([0], 0, "0"), ([1, 3, 7, 8, 9], 4, "1,3,7-9%4"), (range(1000), 0, "0-999"), ([2, 1], 1, "1-2%1")],
)
def test_an_arrays_expression_is_as_short_as_it_can_be(tasks: list[int], limit: int, expression: str) -> None:
    assert commands.array_expression(tasks, limit) == expression


def test_all_recorded_versions_are_tested() -> None:
    assert VERSIONS == ["22.05.8", "23.02", "23.11", "24.05"]
