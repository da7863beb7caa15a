"""Many processes write to one log, some are killed: no event is lost or duplicated, and no row is missing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any
from uuid import UUID

from sqlalchemy import select

from biomeroworker.eventlog.runlog import AlreadyEnded, RunLog, RunState
from biomeroworker.eventlog.tables import EVENTS, TRACKING
from tests.log_steps import accept, bring_to, newest, rows

# processes that share nothing with this one, but need not import everything again
_fresh = multiprocessing.get_context("forkserver")
_fresh.set_forkserver_preload(["tests.log_steps"])


def _together(count: int, work: Callable[..., None], *args: Any) -> list[Any]:
    """Run ``work(number, queue, barrier, *args)`` in several processes; returns what they put into the queue."""
    queue, barrier = _fresh.Queue(), _fresh.Barrier(count, timeout=60)
    processes = [_fresh.Process(target=work, args=(number, queue, barrier, *args)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0, "it failed, or hangs"
    return [queue.get(timeout=10) for _ in processes]


def _open_and_fault(number: int, queue: Any, barrier: Barrier, url: str, run: UUID, count: int) -> None:
    with RunLog.open(url) as log:
        barrier.wait()
        for step in range(count):
            log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=f"{number}/{step}")
        own = accept(log)
        bring_to(log, own, RunState.DONE, job_id=1000 + number)
    queue.put(number)


def test_concurrent_writers_of_one_run_lose_and_duplicate_no_event(log: RunLog, log_url: str) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    _together(4, _open_and_fault, log_url, run, 12)
    messages = Counter(e.attributes["message"] for e in log.events(run) if e.name == "FaultMet")
    assert messages == Counter(f"{number}/{step}" for number in range(4) for step in range(12))
    with log._engine.connect() as connection:
        versions = list(
            connection.execute(
                select(EVENTS.c.originator_version).where(EVENTS.c.originator_id == run).order_by(EVENTS.c.id)
            ).scalars()
        )
    assert versions == list(range(len(versions))), "the order of numbers is the order of commits"
    names = Counter(row["task_name"] for row in rows(log)["biomero_task_execution"])
    assert names["nuclei"] == 4
    assert len(log.runs(state=RunState.DONE)) == 4
    live = rows(log)
    log.rebuild()
    assert rows(log) == live


def _end(number: int, queue: Any, barrier: Barrier, url: str, run: UUID) -> None:
    with RunLog.open(url) as log:
        log.run(run)
        barrier.wait()
        try:
            match number % 3:
                case 0:
                    log.finish(run)
                case 1:
                    log.fail(run, {"message": "failed"})
                case _:
                    log.cancelled(run, {"message": "cancelled"})
        except AlreadyEnded:
            queue.put(None)
        else:
            queue.put(number)


def test_only_one_of_many_concurrent_ends_is_recorded(log: RunLog, log_url: str) -> None:
    run = accept(log)
    bring_to(log, run, RunState.IMPORTING)
    answers = _together(4, _end, log_url, run)
    (winner,) = [answer for answer in answers if answer is not None]
    ends = [e.name for e in log.events(run) if e.name in ("WorkflowCompleted", "WorkflowFailed", "RunCancelled")]
    assert ends == [("WorkflowCompleted", "WorkflowFailed", "RunCancelled")[winner % 3]]


def _open_only(number: int, queue: Any, barrier: Barrier, url: str) -> None:
    barrier.wait()
    with RunLog.open(url) as log:
        accept(log)
    queue.put(number)


def test_many_processes_can_open_a_new_database_at_the_same_time(log_url: str) -> None:
    _together(4, _open_only, log_url)
    with RunLog.open(log_url) as log:
        assert len(log.unfinished()) == 4


def _write_for_ever(ready: Any, url: str) -> None:
    with RunLog.open(url) as log:
        run = accept(log)
        bring_to(log, run, RunState.EXPORTING)
        ready.set()
        for number in range(100_000):
            log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=str(number))


def test_a_killed_writer_leaves_no_event_without_its_row(log: RunLog, log_url: str) -> None:
    for pause in (0.05, 0.11, 0.17):
        ready = _fresh.Event()
        process = _fresh.Process(target=_write_for_ever, args=(ready, log_url))
        process.start()
        assert ready.wait(60)
        time.sleep(pause)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        accept(log)  # the log continues at once
        with log._engine.connect() as connection:
            assert connection.execute(select(TRACKING.c.notification_id)).scalar_one() == newest(log)
        live = rows(log)
        log.rebuild()
        assert rows(log) == live
    for run in log.unfinished():
        faults = [e.attributes["message"] for e in log.events(run) if e.name == "FaultMet"]
        assert faults == [str(number) for number in range(len(faults))]
