"""Defects of BIOMERO 2.8.3 with its event store."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.log_steps import accept, bring_to, rows, walk

_fresh = multiprocessing.get_context("forkserver")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.sqlite"


def _finish(url: str, run: UUID) -> None:
    with RunLog.open(url) as log:
        for _ in walk(log, run):
            pass


def test_changes_by_another_process_appear_in_the_tables(url: str) -> None:
    """Each process cached runs: changes by one process to a run of another were missing in the tables."""
    with RunLog.open(url) as log:
        run = accept(log)
        other = _fresh.Process(target=_finish, args=(url, run))
        other.start()
        other.join(60)
        assert other.exitcode == 0
        views = rows(log)
        (workflow,) = views["biomero_workflow_progress_view"]
        assert (workflow["status"], workflow["progress"]) == ("DONE", "100%")
        (job,) = views["biomero_job_view"]
        assert (job["slurm_job_id"], job["user"], job["group"]) == (101, 4, 3)
        task = next(row for row in views["biomero_task_execution"] if row["task_name"] == "nuclei")
        assert (task["status"], task["user_id"]) == ("COMPLETED", 4)


def _one_run(url: str, start: Barrier) -> None:
    with RunLog.open(url) as log:
        start.wait()
        bring_to(log, accept(log), RunState.DONE)


def test_concurrent_processes_lose_and_duplicate_no_event(url: str) -> None:
    """A conflict between processes stored events twice: 16 workflows instead of 6.

    (On PostgreSQL, with more processes, and killed ones: ``tests/contract/test_recorder/test_recorder_processes.py``.)
    """
    RunLog.open(url).close()
    start = _fresh.Barrier(4, timeout=60)
    processes = [_fresh.Process(target=_one_run, args=(url, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    with RunLog.open(url) as log:
        runs = log.runs()
        assert len(runs) == 4
        for run in runs:
            names = Counter(event.name for event in log.events(run.id))
            once = ("WorkflowInitiated", "WorkflowCompleted")
            assert {name: names[name] for name in once} == dict.fromkeys(once, 1)
        assert len(rows(log)["biomero_workflow_progress_view"]) == 4


def test_a_rebuild_includes_the_first_event(url: str) -> None:
    """Rebuilt tables lacked the first workflow, and its tasks had no user."""
    with RunLog.open(url) as log:
        for _ in range(2):
            bring_to(log, accept(log), RunState.DONE)
        live: dict[str, Any] = rows(log)
        assert log.rebuild() > 0
        assert rows(log) == live
        assert len(live["biomero_workflow_progress_view"]) == 2
        assert all(row["user_id"] == 4 for row in live["biomero_task_execution"])
