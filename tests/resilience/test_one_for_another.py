"""One run never delays another, and a cancel does not wait for the running step.

Supervisors are in this process: the tests make single operations slow.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.transport.shell import ShellTransport
from biomeroworker.deployment.folder_source import FolderSource
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.eventlog.tables import EVENTS, LEASES
from tests.resilience.world import SLOW, World

#: Workers of a supervisor here.
WORKERS = 2


@contextlib.contextmanager
def serving(world: World, log: RunLog) -> Iterator[Supervisor]:
    """Run a supervisor in a thread; raise here what it raises."""
    raised: list[BaseException] = []
    supervisor = world.supervisor(log, workers=WORKERS)

    def serve() -> None:
        try:
            supervisor.serve()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(10)
    assert not raised, raised


class Slow:
    """Exports that take as long as a test wants, and check their guard meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: set[str] = set()
        self.under_way: list[str] = []
        self.cut: list[BaseException] = []
        self.go = threading.Event()
        export = FolderSource.stage_in

        def stage_in(source: FolderSource, run: str, *arguments: Any) -> None:
            if run in self.runs:
                self.under_way.append(run)
                try:
                    while not self.go.wait(0.02):
                        report, guard = arguments[-2:]
                        guard.check()
                        report(0.5, "slowly")
                except BaseException as error:
                    self.cut.append(error)
                    raise
            export(source, run, *arguments)

        monkeypatch.setattr(FolderSource, "stage_in", stage_in)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


def test_long_exports_delay_neither_the_end_of_a_job_nor_a_cancel(world: World, slow: Slow) -> None:
    """While all workers are busy, the end of a job is found, and a queued run and one of the exports are cancelled."""
    ends, waits = world.accept(sleep=0.3), world.accept(sleep=60)
    with world.log() as log, serving(world, log):
        for run_id in (ends, waits):
            world.await_run(run_id, 20, RunState.QUEUED, RunState.RUNNING)
        long = [world.accept() for _ in range(WORKERS)]
        slow.runs.update(map(str, long))
        world.until(lambda: len(slow.under_way) == WORKERS)
        world.await_run(ends, 10, RunState.FETCHING)
        log.request_cancel(waits, "ada")
        assert world.await_run(waits, 10).state is RunState.CANCELLED
        log.request_cancel(long[0], "ada")
        assert world.await_run(long[0], 10).state is RunState.CANCELLED
        assert log.run(long[1]).state is RunState.EXPORTING, "the other continues"
        slow.go.set()
        for run_id in (ends, long[1]):
            world.await_run(run_id, 20)
    world.check(ends)
    world.check(long[1])
    for run_id in (waits, long[0]):
        world.check(run_id, RunState.CANCELLED)


def spoil(log: RunLog, run_id: UUID) -> None:
    """Record something of a run that this version cannot read."""
    with log._recorder.writing() as connection:
        row = {"originator_id": run_id, "originator_version": log.run(run_id).version + 1, "state": b"{}"}
        connection.execute(insert(EVENTS).values(topic="biomero.eventsourcing:WorkflowRun.FromTheFuture", **row))


@SLOW
def test_a_run_that_cannot_be_read_does_not_stop_the_others(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """One is unreadable from the start; another becomes so while its job is polled and a cancel of it is pending."""
    at_once, later, good = world.accept(), world.accept(sleep=60), world.accept(sleep=0.5)
    cancelled = world.accept(sleep=60)
    with world.log() as log:
        spoil(log, at_once)
        with serving(world, log):
            for run_id in (later, good, cancelled):
                world.await_run(run_id, 20, RunState.RUNNING)
            spoil(log, later)
            log.pending_cancels.add(later, [f"biomero-{later}-1"], log.run(good).created_on)
            log.pending_cancels.add(cancelled, [log.run(cancelled).attempts[1].name], log.run(good).created_on)
            world.await_run(good, 20)
            world.until(lambda: not world.live(cancelled), 10)
    world.check(good)
    assert str(at_once) in caplog.text, "the run is named in the log"
    world.cancels(later)


def test_a_step_stops_at_its_guard_when_its_lease_is_lost(world: World, slow: Slow) -> None:
    """Its writes to the log are refused in any case; the guard protects everything else, such as OMERO."""
    run_id = world.accept()
    slow.runs.add(str(run_id))
    with world.log() as log, serving(world, log):
        world.until(lambda: slow.under_way == [str(run_id)])
        with log._recorder.writing() as connection:
            connection.execute(update(LEASES).values(holder="another", until=log._recorder.now(connection) + 60))
        world.until(lambda: bool(slow.cut), 5)
        assert isinstance(slow.cut[0], LeaseLost)
        time.sleep(0.3)
        assert slow.under_way == [str(run_id)], "the step is not started again"


@SLOW
def test_a_stopping_supervisor_keeps_the_lease_of_a_running_step(world: World, slow: Slow) -> None:
    """The other leases are released at once, and this one long before it would expire."""
    world.set_timing(lease_seconds=60.0, stop_grace_seconds=0.2, kill_seconds=1.0)
    busy, idle = world.accept(), world.accept(sleep=60)
    slow.runs.add(str(busy))
    with world.log() as log:
        with serving(world, log):
            world.await_run(idle, 20, RunState.RUNNING)
            world.until(lambda: slow.under_way == [str(busy)])
        with log._engine.connect() as connection:
            held = set(connection.execute(select(LEASES.c.run_id)).scalars())
        assert held == {busy}
        slow.go.set()
        with serving(world, log):
            world.await_run(busy, 20)
            log.request_cancel(idle, "ada")
            world.await_run(idle, 20)
    world.check(busy)


def test_without_faults_each_step_runs_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated step does no harm, so that no other test would notice one."""
    world.set_timing(lease_seconds=60.0)
    taken: Counter[str] = Counter()

    def counted(kind: type, name: str) -> None:
        act = getattr(kind, name)

        def acts(*arguments: Any, **more: Any) -> Any:
            taken[name] += 1
            return act(*arguments, **more)

        monkeypatch.setattr(kind, name, acts)

    for kind, names in (
        (FolderSource, ("check", "list_inputs", "stage_in", "stage_out")),
        (Cluster, ("submit", "cancel", "find")),
        (ShellTransport, ("send_tree", "fetch_tree")),
    ):
        for name in names:
            counted(kind, name)
    run_id = world.accept()
    with world.log() as log:
        world.supervisor(log).run_until_end(run_id)
    assert world.check(run_id).attempt == 1
    assert taken == dict.fromkeys(
        ("check", "list_inputs", "stage_in", "send_tree", "submit", "fetch_tree", "stage_out"), 1
    )
