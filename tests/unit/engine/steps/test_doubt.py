"""What the engine does while it does not know whether a job exists, runs or has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from biomeroworker.cluster.slurm.submit_errors import SubmissionUncertain
from biomeroworker.cluster.slurm.submit_once import AttemptClaimed
from biomeroworker.config import Settings
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.steps.leased_run import LeasedRun, Next
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import NodeFault, Transient
from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.fakes.guards import unleased

PLAN = {"image": "/i.sif", "workflow": {"name": "w", "family": "biomero", "container_image": "lab/w:v1"}}
TIMING = Timing(doubt_seconds=60.0)


class FakeCluster:
    """Does what a test sets; records in which order the engine calls it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.submitting: Exception | int = 7
        self.found: JobStatus | Exception | None = None
        self.holder: int | None = None
        self.statuses: list[JobStatus] = []

    def attempt_name(self, run: UUID, number: int) -> str:
        return f"biomero-{run}-{number}"

    def attempt_folder(self, run: UUID, number: int) -> str:
        return f"/data/biomero_{run}/attempt-{number}"

    def submit(self, job: Any) -> int:
        self.calls.append("submit")
        if isinstance(self.submitting, Exception):
            raise self.submitting
        return self.submitting

    def find(self, name: str, since: datetime) -> JobStatus | None:
        self.calls.append("find")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def abandon(self, run: UUID, number: int) -> int | None:
        self.calls.append(f"abandon {number}")
        return self.holder

    def cancel(self, names: Sequence[str], *, timeout: float = 90) -> None:
        self.calls.append(f"cancel {' '.join(name.rpartition('-')[2] for name in names)}")

    def learn_job_id(self, name: str, job_id: int) -> None:
        pass

    def status(self, names: Sequence[str], since: datetime) -> dict[str, list[JobStatus]]:
        return {name: [replace(status, name=name) for status in self.statuses] for name in names}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        yield log


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def executor(log: RunLog, cluster: FakeCluster) -> RunExecutor:
    return RunExecutor(log, {"": cluster}, {}, Settings.load(environ={}), timing=TIMING)  # type: ignore[dict-item]


@pytest.fixture
def run(log: RunLog) -> LeasedRun:
    """A run that waits to be submitted."""
    run_id = log.accept({"workflow": "w", "source": "folder", "inputs": {}}, name="w", description="", user=1, group=1)
    log.intend(run_id, RunState.EXPORTING, **PLAN)
    log.complete(run_id, RunState.EXPORTING)
    log.begin_attempt(run_id, 1, f"biomero-{run_id}-1")
    log.intend(run_id, RunState.SUBMITTING, attempt=1)
    return unleased(run_id)


def claimed(seconds: float) -> SubmissionUncertain:
    return AttemptClaimed("sbatch was called, and its answer is not known", seconds=seconds)


def job(state: JobState) -> JobStatus:
    return JobStatus("", 7, state, state.name if state is not JobState.UNKNOWN else "")


def test_a_submission_in_doubt_is_waited_for_in_the_same_attempt(log, cluster, executor, run):
    cluster.submitting = claimed(59.0)
    assert executor.advance(run).delay > 0
    found = log.run(run.id)
    assert (found.state, found.attempt) == (RunState.SUBMITTING, 1)
    assert cluster.calls == ["submit", "find"], "nothing is abandoned and nothing is cancelled"


def test_a_scheduler_that_does_not_answer_leads_to_no_new_attempt(log, cluster, executor, run):
    cluster.submitting, cluster.found = claimed(3600.0), Transient("SLURM does not answer")
    executor.advance(run)
    assert log.run(run.id).attempt == 1
    assert cluster.calls == ["submit", "find"]


def test_an_attempt_that_is_replaced_is_first_abandoned_on_the_cluster(log, cluster, executor, run):
    cluster.submitting = claimed(61.0)
    executor.advance(run)
    assert cluster.calls == ["submit", "find", "abandon 1", "cancel 1"]
    assert (log.run(run.id).attempt, log.run(run.id).state) == (2, RunState.TRANSFERRING)


def test_a_job_that_starts_before_its_attempt_is_abandoned_is_adopted(log, cluster, executor, run):
    cluster.submitting, cluster.holder = claimed(61.0), 12
    assert executor.advance(run).next is Next.POLL
    assert log.run(run.id).job_ids == [12]


def test_the_job_of_an_attempt_that_was_lost_to_its_node_is_cancelled_before_the_next_attempt(
    log, cluster, executor, run, monkeypatch
):
    begin = log.begin_attempt
    monkeypatch.setattr(log, "begin_attempt", lambda *a, **k: (cluster.calls.append("begin"), begin(*a, **k)))
    cluster.submitting = NodeFault("the node is gone", node="n1")
    executor.advance(run)
    assert cluster.calls == ["submit", "cancel 1", "begin"]


@pytest.mark.parametrize("statuses", [[], [job(JobState.UNKNOWN)]], ids=["not listed", "unknown state"])
def test_a_job_that_the_scheduler_does_not_know_has_not_ended(log, cluster, executor, run, statuses):
    assert executor.advance(run).next is Next.POLL
    cluster.statuses = [job(JobState.RUNNING)]
    assert executor.monitor.poll("", [run]) == {run.id: False}
    cluster.statuses = statuses
    assert executor.monitor.poll("", [run]) == {run.id: False}
    found = log.run(run.id)
    assert found.state is RunState.RUNNING
    assert found.intent(RunState.FETCHING) == {}


def test_a_job_whose_state_is_unknown_for_long_is_queried_again_and_is_not_done_while_it_runs(log, cluster, run):
    timing = Timing(unknown_deadline_seconds=-1.0)
    executor = RunExecutor(log, {"": cluster}, {}, Settings.load(environ={}), timing=timing)  # type: ignore[dict-item]
    executor.advance(run)
    assert executor.monitor.poll("", [run]) == {run.id: True}
    assert log.run(run.id).state is RunState.FETCHING
    cluster.statuses = [job(JobState.RUNNING)]
    result = executor.advance(run)
    assert (result.next, result.delay) == (Next.STEP, executor.poll_seconds(""))
    assert log.run(run.id).state is RunState.FETCHING
