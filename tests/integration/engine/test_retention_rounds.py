"""Only folders of ended runs are removed, a bounded number per round; data that does not fit is not sent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.config import Settings
from biomeroworker.engine import retention
from biomeroworker.engine.planning import disk_space
from biomeroworker.engine.planning.disk_space import SpaceGuard
from biomeroworker.engine.retention import RetentionCleaner
from biomeroworker.errors import Blocked, Permanent, Transient
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.tables import CLEANUP, EVENTS, VIEWS
from tests.fakes.transport import FakeTransport
from tests.log_steps import accept, bring_to


@pytest.fixture
def transport(tmp_path: Path) -> FakeTransport:
    """The remote programs, run on a folder of this machine."""
    return FakeTransport(tmp_path / "home")


@pytest.fixture
def cluster(transport: FakeTransport) -> Cluster:
    (transport.home / "data").mkdir()
    return Cluster(transport, Apptainer("apptainer"), data="data", images="images", converters="converters")


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    def make(retention_days: float = 14, free_space_gb: float = 0) -> Settings:
        file = tmp_path / "slurm-config.ini"
        file.write_text(
            f"[WORKER]\nwork_folder = {tmp_path}/work\nretention_days = {retention_days}\n"
            f"[SLURM]\nfree_space_gb = {free_space_gb}\n"
        )
        return Settings.load(file, environ={}, standard=[])

    return make


def _run(
    log: RunLog, transport: FakeTransport, state: RunState = RunState.FAILED, days: float = 30, **options: Any
) -> UUID:
    """A run in ``state``, with a folder on the cluster; if it has ended, it ended ``days`` ago."""
    run = accept(log, **options)
    if state is RunState.FAILED:
        log.intend(run, RunState.EXPORTING, version="v1")
        log.fail(run, {"message": "it failed"})
    else:
        bring_to(log, run, state, job_id=run.int % 10**6)
    if state.is_terminal:
        ended = (datetime.now(UTC) - timedelta(days=days)).replace(tzinfo=None)
        with log._recorder.writing() as connection:
            connection.execute(update(VIEWS.runs).where(VIEWS.runs.c.run_id == run).values(ended=ended))
    inner = transport.home / "data" / f"biomero_{run}" / "in"
    inner.mkdir(parents=True)
    (inner / "a b $(touch x).tif").write_text("pixels")
    (transport.home / "data" / f".biomero_{run}.part").mkdir()
    return run


def _there(transport: FakeTransport) -> set[str]:
    return {path.name for path in (transport.home / "data").iterdir()}


def _both(run: UUID) -> set[str]:
    return {f"biomero_{run}", f".biomero_{run}.part"}


def test_only_folders_of_runs_that_ended_long_ago_are_removed(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    old = [_run(log, transport), _run(log, transport, RunState.DONE)]
    young = _run(log, transport, days=13)
    open_ones = [_run(log, transport, state) for state in (RunState.ACCEPTED, RunState.RUNNING, RunState.IMPORTING)]
    (transport.home / "data" / f"biomero_{uuid4()}").mkdir()
    (transport.home / "data" / "mine").mkdir()
    before = _there(transport)
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    assert keeper.clean_remote() == 2
    assert before - _there(transport) == set().union(*map(_both, old))
    assert _both(young) <= _there(transport)
    assert all(_both(run) <= _there(transport) for run in open_ones)


def test_a_folder_that_the_request_keeps_is_never_removed_and_is_looked_at_once(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    kept, plain = _run(log, transport, keep_folder=True), _run(log, transport)
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    assert keeper.clean_remote() == 2
    assert _both(kept) <= _there(transport)
    assert not _both(plain) & _there(transport)
    with log._recorder.writing() as connection:
        connection.execute(update(CLEANUP).values(due=0))
    assert keeper.clean_remote() == 0


def test_the_folder_of_an_unreadable_run_is_preserved_and_others_are_removed(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    strange, plain = _run(log, transport, days=30), _run(log, transport)
    with log._recorder.writing() as connection:
        connection.execute(
            update(EVENTS)
            .where(EVENTS.c.originator_id == strange, EVENTS.c.originator_version == 2)
            .values(topic="biomero.eventsourcing:RunOfTheFuture.Event")
        )
    another = RunLog(log._engine)  # has not read the run before
    assert RetentionCleaner(another, {"": cluster}, settings()).clean_remote() == 2
    assert _both(strange) <= _there(transport)
    assert not _both(plain) & _there(transport)


def test_a_round_is_one_remote_command_of_bounded_size_without_repetition(
    log: RunLog,
    transport: FakeTransport,
    cluster: Cluster,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "FOLDERS_PER_ROUND", 3)
    for days in range(20, 25):
        _run(log, transport, days=days)
    cluster.check()
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    counts = []
    for _ in range(4):
        before = transport.executions
        counts.append((keeper.clean_remote(), transport.executions - before))
    assert counts == [(3, 1), (2, 1), (0, 0), (0, 0)]
    assert _there(transport) == set()


def test_with_zero_retention_days_nothing_is_removed(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    run = _run(log, transport, days=10_000)
    assert RetentionCleaner(log, {"": cluster}, settings(retention_days=0)).clean_remote() == 0
    assert _both(run) <= _there(transport)


def test_the_folder_of_an_active_run_is_not_removed_even_if_a_table_is_wrong(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    ended, running = _run(log, transport), _run(log, transport, RunState.RUNNING)
    with log._recorder.writing() as connection:
        connection.execute(update(VIEWS.runs).values(ended=datetime(2020, 1, 1), state="failed"))
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    with pytest.raises(Permanent, match="not ended"):
        keeper.clean_remote()
    with pytest.raises(Permanent, match="not ended"):
        keeper.remove([ended, running])
    assert _both(ended) | _both(running) <= _there(transport)


def test_nothing_is_removed_through_a_link(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    run = _run(log, transport)
    folder = transport.home / "data" / f"biomero_{run}"
    precious = tmp_path / "precious"
    folder.rename(precious)
    folder.symlink_to(precious)
    RetentionCleaner(log, {"": cluster}, settings()).clean_remote()
    assert not folder.is_symlink()
    assert (precious / "in" / "a b $(touch x).tif").exists()


def test_an_unreachable_cluster_or_unmounted_folder_loses_no_pending_removal(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    run = _run(log, transport)
    cluster.check()
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    transport.fail(Transient("link down"))
    with pytest.raises(Transient):
        keeper.clean_remote()
    assert keeper.clean_remote() == 0, "claimed for a while: the cluster may still be at it"

    data = transport.home / "data"
    data.rename(transport.home / "away")
    _let_claims_run_out(log)
    with pytest.raises(Exception, match="deleting 1 folders"):
        keeper.clean_remote()
    (transport.home / "away").rename(data)
    _let_claims_run_out(log)
    assert keeper.clean_remote() == 1
    assert not _both(run) & _there(transport)


def test_a_folder_that_cannot_be_removed_is_recorded_and_others_are_removed(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    stuck, other = _run(log, transport, days=40), _run(log, transport)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "rm").write_text(
        f'#!/bin/sh\ncase "$*" in *{stuck}*) echo "rm: Device busy" >&2; exit 1;; esac\nexec /bin/rm "$@"\n'
    )
    (tools / "rm").chmod(0o755)
    transport._environment["PATH"] = f"{tools}:{transport._environment['PATH']}"
    keeper = RetentionCleaner(log, {"": cluster}, settings())
    assert keeper.clean_remote() == 2
    assert _there(transport) == _both(stuck)
    with log._engine.connect() as connection:
        row = connection.execute(select(CLEANUP).where(CLEANUP.c.run_id == stuck)).one()
        assert row.swept is None
        assert "Device busy" in row.problem
        assert 3000 < row.due - log._recorder.now(connection) <= 3600 * 1.1
    (tools / "rm").unlink()
    _let_claims_run_out(log)
    assert keeper.clean_remote() == 1
    assert not _both(other) & _there(transport)
    assert not _both(stuck) & _there(transport)


def test_two_cleaners_share_the_work(log: RunLog, transport: FakeTransport) -> None:
    runs = {_run(log, transport, days=20 + number) for number in range(4)}
    first = log.cleanup.claim(timedelta(days=14), 3, 60)
    second = log.cleanup.claim(timedelta(days=14), 3, 60)
    assert len(first) == 3
    assert set(first) | set(second) == runs
    assert len(second) == 1


def test_local_folders_are_removed_when_they_are_not_needed(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    done, failed, recent = (
        _run(log, transport, RunState.DONE, days=1),
        _run(log, transport, days=30),
        _run(log, transport, days=1),
    )
    running, orphan, stranger = _run(log, transport, RunState.RUNNING), uuid4(), uuid4()
    work = tmp_path / "work"
    for run in (done, failed, recent, running, orphan, stranger):
        (work / str(run) / "in").mkdir(parents=True)
    (work / "notes").mkdir()
    long_ago = datetime.now().timestamp() - 30 * 86400
    for run in (orphan, running):
        for path in (work / str(run) / "in", work / str(run)):
            os.utime(path, (long_ago, long_ago))
    assert RetentionCleaner(log, {"": cluster}, settings()).clean_local() == 3
    assert {path.name for path in work.iterdir()} == {"notes", str(recent), str(running), str(stranger)}


def test_a_transfer_that_does_not_fit_is_refused_with_the_sizes(
    transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    transport.answer(["sh", "-c", disk_space._FREE], stdout="10000000000 100000000000 5000 9000\n")
    guard = SpaceGuard(cluster, settings(free_space_gb=5).clusters[""])
    guard.check(4_000_000_000, files=10)
    # before a transfer is refused, free space is queried again: the first 4 GB are on the disk now
    transport.answer(["sh", "-c", disk_space._FREE], stdout="6000000000 100000000000 5000 9000\n")
    with pytest.raises(Blocked, match=r"has 6\.0 GB free of 100\.0 GB; the inputs take 6\.0 GB, and 5\.0 GB must stay"):
        guard.check(6_000_000_000)
    with pytest.raises(Blocked, match="more files"):
        guard.check(1, files=6000)


def test_free_space_is_queried_once_per_minute(
    transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    cluster.check()
    before = transport.executions
    guard = SpaceGuard(cluster, settings().clusters[""])
    for _ in range(50):
        guard.check(1000, files=1)
    assert transport.executions - before == 1


def test_the_free_space_is_that_of_df_also_for_a_folder_that_does_not_exist_yet(
    transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings]
) -> None:
    answer = transport.run(disk_space.free_command(f"{transport.home}/data/not/yet"))
    free = disk_space.parse_free(answer.stdout)
    listed = subprocess.run(
        ["df", "--block-size=1", "--output=size", str(transport.home)], capture_output=True, text=True, check=True
    )
    assert free is not None
    assert free.total == int(listed.stdout.split()[-1])
    with pytest.raises(Blocked, match="free of"):
        SpaceGuard(cluster, settings().clusters[""]).check(free.total + 1)


def _let_claims_run_out(log: RunLog) -> None:
    with log._recorder.writing() as connection:
        connection.execute(update(CLEANUP).where(CLEANUP.c.swept.is_(None)).values(due=0.0))


def test_each_folder_is_removed_on_the_cluster_that_the_run_was_on(
    log: RunLog, transport: FakeTransport, cluster: Cluster, settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "second/data").mkdir(parents=True)
    second = FakeTransport(tmp_path / "second")
    other = Cluster(second, Apptainer("apptainer"), data="data", images="images", converters="converters")
    here = _run(log, transport)
    there = accept(log)
    log.intend(there, RunState.EXPORTING, version="v1", cluster="second")
    log.fail(there, {})
    unplanned, gone = accept(log), accept(log)
    log.fail(unplanned, {})
    log.intend(gone, RunState.EXPORTING, version="v1", cluster="no more")
    log.fail(gone, {})
    ended = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=99)
    with log._recorder.writing() as connection:
        connection.execute(update(VIEWS.runs).values(ended=ended))
    for place in (transport, second):
        (place.home / "data" / f"biomero_{there}").mkdir()

    class Two(dict[str, Cluster]):
        def __missing__(self, name: str) -> Cluster:
            raise Blocked(f"the configuration names no cluster {name!r}")

    keeper = RetentionCleaner(log, Two({"": cluster, "second": other}), settings())
    assert keeper.clean_remote() == 4
    assert _there(second) == set()
    assert _there(transport) == {f"biomero_{there}"}, f"nothing of {here}; others are not removed"
    assert keeper.clean_remote() == 0, "nothing is queried again at once"
