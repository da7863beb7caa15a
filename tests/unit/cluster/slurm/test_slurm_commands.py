"""Commands for SLURM, and its answers as recorded from SLURM 22.05.8 and as described in its manual."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.cluster.slurm import commands, parsing
from biomeroworker.cluster.slurm.scheduler import JobSpec
from biomeroworker.domain.job_status import JobState
from biomeroworker.errors import Permanent
from tests.unit.cluster.slurm.slurm_texts import SINCE, answered

S = "2026-11-21T02:46:18"
#: Memory, CPU time, CPUs and TRES of an accounting row, where they do not matter.
U = "|00:00:00|1|"


# -- submit ------------------------------------------------------------------------------------------------------------


def test_a_job_is_submitted_under_its_attempts_name() -> None:
    job = JobSpec(
        name="biomero-x-1",
        script="/data/a b/job.sh",
        stdout="/data/a b/slurm.out",
        workdir="/data/a b",
        arguments=("/data/a b",),
        options={"partition": "gpu", "exclusive": "", "exclude": "n1,n2"},
        array="0-9%2",
    )
    assert commands.submit_command(job) == [
        "sbatch", "--parsable", "--job-name=biomero-x-1", "--output=/data/a b/slurm.out", "--chdir=/data/a b",
        "--array=0-9%2", "--partition=gpu", "--exclusive", "--exclude=n1,n2", "/data/a b/job.sh", "/data/a b",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "a,b", "a b", "--wrap", "a;b", "a\nb", "x" * 300])
def test_a_job_name_that_slurm_would_misread_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a job name"):
        commands.submit_command(JobSpec(name=name, script="s", stdout="o", workdir="w"))
    with pytest.raises(ValueError, match="not a job name"):
        commands.status_command([name], SINCE)
    with pytest.raises(ValueError, match="not a job name"):
        commands.cancel_command([name])


def test_an_invalid_option_is_refused() -> None:
    with pytest.raises(Permanent, match="not an option"):
        commands.submit_command(JobSpec(name="a", script="s", stdout="o", workdir="w", options={"mem=1 --wrap": "x"}))


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("123\n", 123),
        ("123;cluster\n", 123),
        ("Submitted batch job 5\n", 5),
        ("Submitted batch job 5 on cluster snellius\n", 5),
        ("sbatch: INFO: 2 cores were added\n------\n4711\n", 4711),
        ("Your balance is 12 hours\n99;c1\n", 99),
        ("", None),
        ("sbatch: error: Batch job submission failed", None),
    ],
)
def test_the_job_id_is_read_from_every_form_of_the_answer(text: str, job_id: int | None) -> None:
    assert commands.parse_submitted(text) == job_id


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CANCELLED by 2001", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("COMPLETED", JobState.COMPLETED),
        ("COMPLETING", JobState.RUNNING),
        ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
        ("DEADLINE", JobState.TIMEOUT),
        ("BOOT_FAIL", JobState.NODE_FAIL),
        ("REQUEUED", JobState.PENDING),
        ("SPECIAL_EXIT", JobState.PENDING),
        ("QUANTUM_ENTANGLED", JobState.UNKNOWN),
        ("OUT_OF_ME+", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_each_state_name_has_one_state_and_a_new_name_is_unknown(word: str, state: JobState) -> None:
    assert commands.state_of(word) is state


@given(st.text())
def test_only_completed_counts_as_success(word: str) -> None:
    assert (commands.state_of(word) is JobState.COMPLETED) == (
        bool(word.split()) and word.split()[0].rstrip("+").upper() == "COMPLETED"
    )


@given(st.text())
def test_no_garbled_answer_crashes_or_counts_as_success(text: str) -> None:
    answer = commands.parse_status(answered(text.replace("COMPLETED", ""), text.replace("COMPLETED", "")))
    assert all(job.state is not JobState.COMPLETED for job in answer.jobs)


# -- status ------------------------------------------------------------------------------------------------------------

RECORDED_QUEUE = f"""
4|5-7%2|PENDING|{S}|0:00||JobArrayTaskLimit|biomero-a-4
5|N/A|PENDING|{S}|0:00||BeginTime|biomero-a-5
6|N/A|PENDING|{S}|0:00||JobHeldUser|biomero-a-6
4|3|RUNNING|{S}|0:02|n1|None|biomero-a-4
4|4|RUNNING|{S}|0:02|n2|None|biomero-a-4
7|N/A|CANCELLED|{S}|1-02:03:04|n2|None|biomero-a-7
2|N/A|FAILED|{S}|0:00|n1|NonZeroExitCode|biomero-a-2
3|N/A|FAILED|{S}|0:00|n1|JobLaunchFailure|biomero-a-3
8|N/A|OUT_OF_MEMORY|{S}|0:00|n2|OutOfMemory|biomero-a-8
11|N/A|FAILED|{S}|0:00||BadConstraints|biomero-a-9
"""
RECORDED_ACCOUNTING = f"""
1|{S}|0|0:0|{U}|n1|COMPLETED|None|biomero-a-1
1.batch|2026-11-21T02:46:19|0|0:0|200K|00:00:00|1||n1|COMPLETED||batch
1.0|2026-11-21T02:46:19|0|0:0|1.5M|00:00:00|1||n1|COMPLETED||python
2|{S}|0|42:0|{U}|n1|FAILED|None|biomero-a-2
3|{S}|0|0:11|{U}|n1|FAILED|None|biomero-a-3
7|{S}|2|0:0|{U}|n2|CANCELLED by 1001|None|biomero-a-7
8|{S}|0|0:125|{U}|n2|OUT_OF_MEMORY|None|biomero-a-8
4_3|{S}|6|0:0|{U}|n1|RUNNING|None|biomero-a-4
11|{S}|0|1:0|{U}|None assigned|FAILED|None|biomero-a-9
"""


@pytest.fixture(scope="module")
def recorded() -> commands.SchedulerSnapshot:
    return commands.parse_status(answered(RECORDED_QUEUE, RECORDED_ACCOUNTING))


def test_waiting_array_tasks_have_one_status_each(recorded: commands.SchedulerSnapshot) -> None:
    tasks = recorded.by_name(["biomero-a-4"])["biomero-a-4"]
    assert [(job.task, job.state.name, job.job_id) for job in tasks] == [
        (3, "RUNNING", 4), (4, "RUNNING", 4), (5, "PENDING", 4), (6, "PENDING", 4), (7, "PENDING", 4),
    ]  # fmt: skip
    assert tasks[-1].reason == "JobArrayTaskLimit"


def test_the_end_of_a_job_has_code_signal_and_memory(recorded: commands.SchedulerSnapshot) -> None:
    jobs = {job.name: job for job in recorded.jobs}
    assert (jobs["biomero-a-1"].state, jobs["biomero-a-1"].exit_code) == (JobState.COMPLETED, 0)
    assert jobs["biomero-a-1"].max_rss_bytes == 1536 * 1024
    assert (jobs["biomero-a-2"].exit_code, jobs["biomero-a-2"].signal) == (42, None)
    assert (jobs["biomero-a-2"].reason, jobs["biomero-a-2"].node) == ("NonZeroExitCode", "n1")
    assert (jobs["biomero-a-3"].exit_code, jobs["biomero-a-3"].signal) == (0, 11)
    assert jobs["biomero-a-7"].raw_state == "CANCELLED by 1001"
    assert jobs["biomero-a-8"].state is JobState.OUT_OF_MEMORY
    assert jobs["biomero-a-5"].submitted == datetime(2026, 11, 21, 2, 46, 18, tzinfo=UTC)


def test_a_refused_submission_is_not_a_job(recorded: commands.SchedulerSnapshot) -> None:
    assert recorded.by_name(["biomero-a-9"]) == {"biomero-a-9": []}
    only_accounting = commands.parse_status(answered("", RECORDED_ACCOUNTING))
    assert only_accounting.by_name(["biomero-a-9"]) == {"biomero-a-9": []}


def test_a_job_that_left_the_queue_is_unknown_until_accounting_has_its_end() -> None:
    lagging = f"9|{S}|30|0:0|{U}|n1|RUNNING|None|biomero-a-1"
    (job,) = commands.parse_status(answered("", lagging)).jobs
    assert job.state is JobState.UNKNOWN
    assert job.raw_state == "RUNNING"
    assert "left the queue" in job.reason


def test_the_queue_wins_while_a_job_is_in_it() -> None:
    queue = f"9|N/A|PENDING|{S}|0:00||Resources|biomero-a-1"
    earlier = f"9|{S}|30|0:0|{U}|n1|NODE_FAIL|None|biomero-a-1"  # it was requeued after its node was lost
    (job,) = commands.parse_status(answered(queue, earlier)).jobs
    assert (job.state, job.exit_code) == (JobState.PENDING, None)


def test_incomplete_rows_of_accounting_are_ignored() -> None:
    answer = commands.parse_status(answered("", f"9|{S}|0|0:0|{U}|n1|RUNNING|None|allocation"))
    assert answer.by_name(["biomero-a-1"]) == {"biomero-a-1": []}


def test_of_two_jobs_with_one_name_the_later_counts_even_if_its_id_is_lower() -> None:
    reset = (
        f"900|2026-11-20T10:00:00|5|0:0|{U}|n1|FAILED|None|biomero-a-1\n3|{S}|5|0:0|{U}|n1|COMPLETED|None|biomero-a-1"
    )
    (job,) = commands.parse_status(answered("", reset)).jobs
    assert (job.job_id, job.state) == (3, JobState.COMPLETED)


def test_without_accounting_squeue_alone_is_used() -> None:
    answer = commands.parse_status(
        answered(f"9|N/A|RUNNING|{S}|0:05|n1|None|biomero-a-1", "Slurm accounting storage is disabled", 0, 1)
    )
    assert (answer.queue, answer.accounting, answer.errors) == (True, False, "Slurm accounting storage is disabled")
    assert answer.jobs[0].state is JobState.RUNNING


def test_without_accounting_a_job_that_left_the_queue_is_unrecoverable() -> None:
    off = commands.parse_status(answered("", "Slurm accounting storage is disabled", 0, 1))
    forgotten = off.unrecoverable("biomero-a-1")
    assert forgotten is not None
    assert (forgotten.state, forgotten.unrecoverable) == (JobState.UNKNOWN, True)
    down = commands.parse_status(
        answered("", "sacct: error: Problem talking to the database: Connection refused", 0, 1)
    )
    silent = commands.parse_status(answered("Unable to contact", "Slurm accounting storage is disabled", 1, 1))
    lagging = commands.parse_status(answered())
    assert [answer.unrecoverable("biomero-a-1") for answer in (down, silent, lagging)] == [None, None, None]


def test_without_the_controller_accounting_alone_is_used() -> None:
    complaint = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    answer = commands.parse_status(answered(complaint, f"9|{S}|30|0:0|{U}|n1|RUNNING|None|biomero-a-1", 1, 0))
    assert (answer.queue, answer.jobs[0].state) == (False, JobState.RUNNING)
    assert "Unable to contact" in answer.errors


def test_a_truncated_answer_contains_no_status() -> None:
    whole = answered(RECORDED_QUEUE, RECORDED_ACCOUNTING)
    answer = commands.parse_status(whole[:200])
    assert (answer.queue, answer.accounting, answer.jobs) == (False, False, ())


def test_warnings_between_rows_and_unusual_names_are_ignored() -> None:
    queue = f"squeue: warning: x\n9|N/A|RUNNING|{S}|0:05|n1|None|my|job\n10|N/A|RUNNING|{S}|0:05|n1|None|biomero-a-1"
    answer = commands.parse_status(answered(queue))
    assert [job.name for job in answer.jobs] == ["my|job", "biomero-a-1"]


def test_parts_of_a_heterogeneous_job_and_waiting_arrays_in_accounting_are_read() -> None:
    rows = f"12+0|{S}|5|0:0|{U}|n1|COMPLETED|None|biomero-a-1\n13_[1-3,7%2]|{S}|0|0:0|{U}||PENDING|None|biomero-a-2"
    answer = commands.parse_status(answered("", rows, 1))
    assert [(job.job_id, job.task, job.state.name) for job in answer.jobs] == [
        (12, None, "COMPLETED"), (13, 1, "PENDING"), (13, 2, "PENDING"), (13, 3, "PENDING"), (13, 7, "PENDING"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "tasks"),
    [("N/A", [None]), ("4", [4]), ("[5-7%2]", [5, 6, 7]), ("0,5-9:2%3", [0, 5, 7, 9]), ("1-3,...", [1, 2, 3])],
)
def test_every_form_of_an_arrays_tasks_is_read(expression: str, tasks: list[int | None]) -> None:
    line = f"1|{expression}|PENDING|{S}|0:00||None|biomero-a-1"
    assert [job.task for job in commands.parse_status(answered(line)).jobs] == tasks


def test_a_thousand_jobs_are_one_query_and_too_many_names_are_not_listed() -> None:
    names = [f"biomero-{'0' * 36}-{number}" for number in range(1000)]
    argv = commands.status_command(names, SINCE, [1, 2], "/data")
    listed, _, ids, folder = argv[-4:]
    assert listed.count(",") == 999
    assert (ids, folder) == ("1,2", "/data")
    assert commands.status_command(names * 3, SINCE)[-4] == ""
    assert max(len(word) for word in argv) < 128 * 1024


def test_the_search_starts_an_hour_before_to_allow_for_clocks() -> None:
    assert commands.status_command(["a"], SINCE)[-3] == "2026-11-21T01:00:00"


@pytest.mark.parametrize(
    ("printed", "progress"),
    [("43", "43%"), ("62.5 %", "62%"), ("400", "100%"), ("soon", None), ("$(id)", None), ("", None)],
)
def test_the_progress_of_a_job_is_parsed(printed: str, progress: str | None) -> None:
    line = f"1|N/A|RUNNING|{S}|0:05|n1|None|biomero-a-1"
    answer = commands.parse_status(answered(line) + f"[progress]\nbiomero-a-1 {printed}\n[end 0]\n")
    (job,) = answer.by_name(["biomero-a-1"])["biomero-a-1"]
    assert job.progress == progress


def test_progress_is_read_for_running_jobs_only_and_without_a_process_per_job(tmp_path: Path) -> None:
    run = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
    for number, printed in ((1, "7\n"), (2, "99\n"), (3, "31")):
        folder = tmp_path / f"biomero_{run}/attempt-{number}"
        folder.mkdir(parents=True)
        (folder / "progress").write_text(printed)
    tools = tmp_path / "tools"
    tools.mkdir()
    rows = [f"{n}|{task}|{state}|{S}|0:05|n1|None|biomero-{run}-{n}" for n, task, state in (
        (1, "N/A", "RUNNING"), (2, "N/A", "PENDING"), (3, "N/A", "RUNNING"), (4, "N/A", "RUNNING"))]  # fmt: skip
    for name, text in (("squeue", "\n".join(rows)), ("sacct", "")):
        (tools / name).write_text(f"#!/bin/sh\ncat <<'E'\n{text}\nE\n")
        (tools / name).chmod(0o755)
    command = commands.status_command([f"biomero-{run}-1"], SINCE, [], str(tmp_path))
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    names = [f"biomero-{run}-{number}" for number in (1, 2, 3, 4)]
    found = commands.parse_status(text).by_name(names)
    assert [found[name][0].progress for name in names] == ["7%", None, "31%", None]


@pytest.mark.parametrize(
    ("state", "is_out"),
    [
        ("idle", False), ("mix", False), ("alloc", False), ("idle~", False), ("boot", False), ("down", True),
        ("drain", True), ("drng", True), ("drained*", True), ("maint", True), ("idle*", True), ("unk*", True),
    ],
)  # fmt: skip
def test_a_node_that_is_down_drained_or_silent_takes_no_jobs(state: str, is_out: bool) -> None:
    assert parsing.node_is_out(state) is is_out
