"""A database that an earlier version wrote opens here, shows its history, and runs that had not ended continue.

The stores are in ``tests/data/stores``, one folder for each version, with the program that wrote them. Each is the log
of a deployment whose supervisor was killed, together with its cluster, which continued without it.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.config import Settings
from biomeroworker.engine.retention import RetentionCleaner
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.runlog import RunState
from biomeroworker.eventlog.store import schema
from biomeroworker.eventlog.tables import OWN_TABLES, TRACKING
from biomeroworker.notifications.dispatcher import Dispatcher
from tests.database_fixtures import KINDS, new_database
from tests.log_steps import accept, bring_to, rows
from tests.notice_servers import Hook, serving
from tests.resilience import child
from tests.resilience.world import TERMINAL_EVENTS, World

STORES = Path(__file__).parents[2] / "data" / "stores"
VERSIONS = ["ff58aaa"]

#: What becomes of the runs that were under way: their state, and the number of their last attempt.
ENDS = {
    "accepted": (RunState.DONE, 1),
    "exporting": (RunState.DONE, 1),
    "transferring": (RunState.DONE, 1),
    "submitting": (RunState.DONE, 1),
    "submitting, the job submitted": (RunState.DONE, 1),
    "queued": (RunState.DONE, 1),
    "running": (RunState.DONE, 1),
    "running, its end not recorded": (RunState.DONE, 1),
    "running, its inputs not all sent": (RunState.DONE, 1),
    "fetching": (RunState.DONE, 1),
    "importing": (RunState.DONE, 1),
    "second attempt": (RunState.DONE, 2),
    "after faults": (RunState.DONE, 1),
    "accepted, a cancel requested": (RunState.CANCELLED, 0),
    "running, a cancel requested": (RunState.CANCELLED, 1),
}


@dataclass(frozen=True)
class Store:
    """A store: the deployment, and the output of the version that wrote it."""

    world: World
    shown: dict[str, Any]

    def id_of(self, label: str) -> UUID:
        """The run that was given this name when it was recorded."""
        return UUID(self.shown["labels"][label])

    def show(self, *words: str) -> Any:
        """The output of the command line of this version."""
        answer = CliRunner().invoke(app, [*words, "--json", "--config", str(self.world.folder / "config.ini")])
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    def execute(self, *statements: str) -> None:
        """Change the database without the product."""
        engine = create_engine(self.world.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table, as they were recorded."""
        engine = create_engine(self.world.url)
        with engine.connect() as connection:
            found = [dict(row) for row in connection.execute(text(f"SELECT * FROM {name}")).mappings()]
        engine.dispose()
        return list(json.loads(json.dumps(found, default=_as_text)))


def _as_text(value: object) -> str:
    return bytes(value).hex() if isinstance(value, memoryview) else str(value)


def _moved(content: str, recorded: str, folder: Path) -> str:
    """A store whose deployment was moved to another folder; events are hexadecimal there."""
    old, new = recorded.encode().hex(), str(folder).encode().hex()
    return content.replace(recorded, str(folder)).replace(old, new).replace(old.upper(), new.upper())


def _read(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode()


def _restore(version: str, kind: str, folder: Path, url: str) -> Store:
    data = STORES / version
    text_of_shown = _read(data / f"{kind}.json.gz")
    recorded = json.loads(text_of_shown)["folder"]
    with tarfile.open(data / f"{kind}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_file() and recorded.encode() in (content := path.read_bytes()):
            path.write_bytes(content.replace(recorded.encode(), str(folder).encode()))
    config = folder / "config.ini"
    config.write_text(config.read_text().replace("[ANALYTICS]\n", f"[ANALYTICS]\nsqlalchemy_url = {url}\n"))
    script = _moved(_read(data / f"{kind}.sql.gz"), recorded, folder)
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(make_url(url).database or "")) as database:
            database.executescript(script)
    else:
        script = "\n".join(line for line in script.splitlines() if not line.startswith("\\"))  # psql's own commands
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.connection.cursor().execute(script)  # several statements at once: past SQLAlchemy
        engine.dispose()
    world = World(folder, url)
    world.install_slurm()
    store = Store(world, json.loads(_moved(text_of_shown, recorded, folder)))
    # all leases have run out and all notices are due, also on a machine whose clock is behind the one that wrote them
    store.execute("UPDATE biomeroworker_lease SET until = 0", "UPDATE biomeroworker_outbox SET until = 0, due = 0")
    return store


@contextlib.contextmanager
def _store(request: pytest.FixtureRequest, version: str, kind: str, folder: Path) -> Iterator[Store]:
    if kind == "sqlite":
        yield _restore(version, kind, folder, f"sqlite:///{folder}/log.sqlite")
    else:
        with new_database(request.getfixturevalue("postgres")) as url:
            yield _restore(version, kind, folder, url)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, version: str, tmp_path: Path) -> Iterator[Store]:
    """A separate store for one test."""
    with _store(request, version, request.param, tmp_path / "store") as restored:
        yield restored


@pytest.fixture(scope="module", params=KINDS)
def continued(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Store]]:
    """Stores after a supervisor of this version has done all pending work."""
    with contextlib.ExitStack() as stores:
        made: dict[str, Store] = {}

        def make(version: str) -> Store:
            if version not in made:
                folder = tmp_path_factory.mktemp("continued") / "store"
                store = made[version] = stores.enter_context(_store(request, version, request.param, folder))
                store.world.start_held_job(store.id_of("queued"))
                with child.running(store.world), store.world.log() as log:
                    waiting = {store.id_of(label) for label in ENDS}
                    end = time.monotonic() + 90
                    # a run that does not end fails its own test
                    while (
                        waiting.intersection(log.unfinished()) or log.pending_cancels.all()
                    ) and time.monotonic() < end:
                        time.sleep(0.2)
            return made[version]

        yield make


def _known_part(of: Any, like: Any) -> Any:
    """The part of the current output that the earlier version showed; later versions may show more."""
    if isinstance(of, dict) and isinstance(like, dict):
        return {key: _known_part(of[key], like[key]) for key in like if key in of}
    if isinstance(of, list) and isinstance(like, list) and len(of) == len(like):
        return [_known_part(*pair) for pair in zip(of, like, strict=True)]
    return of


def test_all_fields_of_the_runs_are_shown_as_before(store: Store) -> None:
    assert _known_part(store.show("runs"), store.shown["runs"]) == store.shown["runs"]
    for run_id, then in store.shown["show"].items():
        now = _known_part(store.show("show", run_id), then)
        if then["state"] not in ("done", "failed", "cancelled"):  # how long it is in its state grows
            now["seconds"].pop(then["state"])
            then["seconds"].pop(then["state"])
        assert now == then


def test_the_tables_have_the_same_rows_also_after_a_rebuild_from_the_events(store: Store) -> None:
    then = store.shown["views"]
    with store.world.log() as log:
        for _ in range(2):
            now = json.loads(json.dumps(rows(log), default=str))
            assert _known_part(now, then) == then
            log.rebuild()


def test_opening_migrates_the_schema_and_changes_no_row(store: Store) -> None:
    own = [table.name for table in OWN_TABLES if table is not TRACKING]  # it contains the version of the read tables
    before = {name: store.table(name) for name in own}
    events = store.table("workflowtracker_events")
    store.world.log().close()
    assert store.table(schema.VERSION_TABLE) == [{"version_num": schema.latest_revision()}]
    assert {name: store.table(name) for name in own} == before
    assert store.table("workflowtracker_events") == events


def test_a_new_run_is_recorded_after_the_existing_runs(store: Store) -> None:
    with store.world.log() as log:
        earlier = {run.id for run in log.runs(limit=1000)}
        newest = max(row["id"] for row in store.table("workflowtracker_events"))
        run_id = accept(log)
        bring_to(log, run_id, RunState.DONE, job_id=9001)
        assert {run.id for run in log.runs(limit=1000)} == earlier | {run_id}
        assert all(event.number > newest for event in log.events(run_id))
        live = rows(log)
        log.rebuild()
        assert rows(log) == live
    assert len(store.table("biomeroworker_outbox")) == len(store.shown["tables"]["biomeroworker_outbox"]) + 2


def test_pending_work_is_still_pending(store: Store) -> None:
    store.world.log().close()  # opening brings the tables up to date
    then = store.shown["tables"]
    assert {row["run_id"] for row in store.table("biomeroworker_lease")} == {
        row["run_id"] for row in then["biomeroworker_lease"]
    }
    open_then = {(row["run_id"], row["channel"]) for row in then["biomeroworker_outbox"] if row["closed"] is None}
    open_now = {(row["run_id"], row["channel"]) for row in store.table("biomeroworker_outbox") if row["closed"] is None}
    assert open_now == open_then
    with store.world.log() as log:
        assert [str(one.run_id) for one in log.pending_cancels.all()] == [
            str(store.id_of("cancelled while its job could not be reached"))
        ]


@pytest.mark.parametrize("label", ENDS)
def test_a_run_that_had_not_ended_continues_to_its_end(
    continued: Callable[..., Store], version: str, label: str
) -> None:
    store = continued(version)
    run_id = store.id_of(label)
    state, attempt = ENDS[label]
    run: WorkflowRun = store.world.check(run_id, state)  # one end, one job per attempt, one set of results
    assert run.attempt == attempt
    then = store.shown["show"][str(run_id)]
    assert run.job_ids[: len(then["job_ids"])] == then["job_ids"], "the jobs that were submitted are adopted"
    now = store.show("show", str(run_id))
    assert now["events"][: len(then["events"])] == then["events"], "history is only added to"


def test_a_job_that_was_submitted_when_the_supervisor_died_is_adopted(
    continued: Callable[..., Store], version: str
) -> None:
    store = continued(version)
    run_id = store.id_of("submitting, the job submitted")
    (job,) = [job for job in store.world.jobs() if str(run_id) in job["name"]]
    with store.world.log() as log:
        assert log.run(run_id).job_ids == [job["id"]]


def test_ended_and_paused_runs_are_not_changed(continued: Callable[..., Store], version: str) -> None:
    store = continued(version)
    for label in set(store.shown["labels"]) - set(ENDS):
        run_id = str(store.id_of(label))
        assert store.show("show", run_id)["events"] == store.shown["show"][run_id]["events"], label


def test_a_pending_cancel_is_delivered(continued: Callable[..., Store], version: str) -> None:
    store = continued(version)
    run_id = store.id_of("cancelled while its job could not be reached")
    assert [job["state"] for job in store.world.jobs() if str(run_id) in job["name"]] == ["CANCELLED"]
    assert store.table("biomeroworker_owed_cancel") == []


def test_a_paused_run_continues_when_it_is_resumed(store: Store) -> None:
    run_id = store.id_of("paused")
    with store.world.log() as log:
        assert log.run(run_id).paused
        log.resume(run_id)
    with child.running(store.world, only=str(run_id)):
        store.world.await_run(run_id)
    assert store.world.check(run_id, RunState.DONE).attempt == 2


def test_pending_notifications_are_delivered_and_delivered_ones_are_not_repeated(store: Store) -> None:
    waited = {
        row["run_id"]
        for row in store.shown["tables"]["biomeroworker_outbox"]
        if row["closed"] is None and row["channel"] == "webhook"
    }
    assert len(waited) >= 3
    with serving(Hook()) as hook, store.world.log() as log:
        config = store.world.folder / "config.ini"
        with config.open("a") as file:
            file.write(f"[NOTIFICATIONS]\nwebhook_url = {hook.url}\ngive_up_days = 100000\n")
        courier = Dispatcher(log, Settings.load(config, environ={}), {})
        courier.deliver()
        courier.deliver()
    delivered = [json.loads(body)["run"] for _, body in hook.taken]
    assert sorted(UUID(run).hex for run in delivered) == sorted(UUID(run).hex for run in waited)


def test_only_folders_of_ended_runs_are_removed_on_the_cluster(store: Store) -> None:
    store.world.log().close()  # opening may make the read tables again from the events
    long_ago = datetime(2020, 1, 1).isoformat(" ")
    store.execute(
        f"UPDATE biomeroworker_run SET ended = '{long_ago}' WHERE ended IS NOT NULL",
        "UPDATE biomeroworker_swept SET due = 0",
    )
    with store.world.log() as log:
        assert RetentionCleaner(log, {"": store.world.cluster()}, store.world.settings).clean_remote() >= 4
    left = {UUID(path.name.removeprefix("biomero_")) for path in (store.world.home / "data").glob("biomero_*")}
    ended = {
        UUID(run_id)
        for run_id, run in store.shown["show"].items()
        if any(event["name"] in TERMINAL_EVENTS for event in run["events"])
    }
    reached_the_cluster = {UUID(run_id) for run_id, run in store.shown["show"].items() if run["job_ids"]}
    assert left.isdisjoint(ended)
    assert reached_the_cluster - ended <= left
