"""The cost of an event: one commit and, on PostgreSQL, at most five statements, including all projections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.fence import LeaseLost, held
from tests.log_steps import accept, bring_to, newest, rows, see

Count = Callable[[Callable[[], Any]], tuple[int, int, int]]


@pytest.fixture
def count(log: RunLog) -> Iterator[Count]:
    """The number of events, statements and commits of a call."""
    statements: list[str] = []
    commits: list[object] = []

    def executed(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):  # other drivers send it where no listener sees it
            statements.append(statement)

    def committed(connection: Any) -> None:
        commits.append(connection)

    event.listen(log._engine, "before_cursor_execute", executed)
    event.listen(log._engine, "commit", committed)

    def measured(act: Callable[[], Any]) -> tuple[int, int, int]:
        before = newest(log)
        statements.clear()
        commits.clear()
        act()
        made = len(statements), len(commits)
        return newest(log) - before, *made

    yield measured
    event.remove(log._engine, "before_cursor_execute", executed)
    event.remove(log._engine, "commit", committed)


def _way(log: RunLog, run: UUID, job: int) -> list[Callable[[], Any]]:
    """The changes of a run with a fault, and one call that changes nothing."""
    return [
        lambda: log.intend(run, RunState.EXPORTING, version="v1"),
        lambda: log.complete(run, RunState.EXPORTING, images=2),
        lambda: log.begin_attempt(run, 1, f"biomero-{run}-1"),
        lambda: log.complete(run, RunState.TRANSFERRING, attempt=1),
        lambda: log.intend(run, RunState.SUBMITTING, attempt=1),
        lambda: log.submitted(run, 1, job),
        lambda: see(log, run, "PENDING"),
        lambda: see(log, run, "RUNNING", node="n1", progress="10%"),
        lambda: log.fault(run, RunState.RUNNING, attempt=1, kind="transient", message="link down"),
        lambda: see(log, run, "COMPLETED", progress="100%"),
        lambda: log.intend(run, RunState.FETCHING, attempt=1),
        lambda: log.complete(run, RunState.FETCHING, attempt=1),
        lambda: log.intend(run, RunState.IMPORTING, attempt=1),
        lambda: log.complete(run, RunState.IMPORTING, attempt=1),
        lambda: log.finish(run, made={"Image": 1}),
    ]


@pytest.mark.parametrize("leased", [False, True])
def test_a_change_costs_few_statements_and_one_commit(log: RunLog, count: Count, leased: bool) -> None:
    run = accept(log)
    if leased:
        assert log.leases.acquire("us", 60) == {run}
    events = statements = 0
    with held(run, "us") if leased else nullcontext():
        for number, change in enumerate(_way(log, run, 101)):
            cost = count(change)
            assert cost[2] == 1, f"change {number}"
            if log._engine.dialect.name == "postgresql":
                assert cost[1] <= 5, f"change {number}"
            events, statements = events + cost[0], statements + cost[1]
    assert log.run(run).state is RunState.DONE
    assert statements / events <= 5
    log.rebuild()


def test_an_unchanged_observation_costs_one_query_and_no_commit(log: RunLog, count: Count) -> None:
    run = accept(log)
    bring_to(log, run, RunState.RUNNING)
    see(log, run, "RUNNING", node="node-1", progress="43")
    assert count(lambda: see(log, run, "RUNNING", node="node-1", progress="43")) == (0, 1, 0)


def test_rows_written_together_are_the_rows_of_a_rebuild(log: RunLog) -> None:
    for job in (101, 102):
        run = accept(log)
        for change in _way(log, run, job):
            change()
    written = rows(log)
    log.rebuild()
    assert rows(log) == written


def test_a_change_of_another_process_is_seen(log: RunLog, log_url: str) -> None:
    run = accept(log)
    with RunLog.open(log_url) as other:
        for number, change in enumerate(zip(_way(log, run, 101), _way(other, run, 101), strict=True)):
            change[number % 2]()
        assert other.run(run).state is log.run(run).state is RunState.DONE
    written = rows(log)
    log.rebuild()
    assert rows(log) == written


def test_changing_a_returned_run_does_not_change_the_cache(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    mine = log.run(run)
    mine.pause("only here", RunState.EXPORTING)
    mine.faults.append("rubbish")  # type: ignore[arg-type]
    assert not log.run(run).paused
    assert log.run(run).faults == []


def test_nothing_is_recorded_under_a_lost_lease(log: RunLog, count: Count) -> None:
    run = accept(log)
    log.leases.acquire("them", 60)
    before = rows(log)

    def late() -> None:
        with held(run, "us"), pytest.raises(LeaseLost):
            log.fail(run, {"message": "too late"})

    assert count(late)[::2] == (0, 0)
    assert rows(log) == before
    assert log.outbox.waiting() == 0


def test_a_long_series_of_faults_preserves_the_first(log: RunLog) -> None:
    run = accept(log)
    bring_to(log, run, RunState.EXPORTING)
    for number in range(130):
        log.fault(run, RunState.EXPORTING, attempt=0, kind="transient", message=str(number))
    found = log.run(run).consecutive_faults(RunState.EXPORTING)
    assert (found[0].message, found[-1].message, len(found)) == ("0", "129", 100)
