"""The schema of our own tables is versioned: opening migrates an older database and refuses a newer one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text

from biomeroworker.errors import ConfigError
from biomeroworker.eventlog import database
from biomeroworker.eventlog.database import connect
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store import schema
from biomeroworker.eventlog.tables import OWN_TABLES, metadata
from tests.log_steps import accept, bring_to, rows

#: A revision that adds a column. The statements between are for what a test wants to happen inside the migration.
ADDS_A_COLUMN = """
import os, signal, time
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

def upgrade():
    op.add_column("biomeroworker_outbox", sa.Column("note", sa.Text, nullable=False, server_default="none"))
    {then}
"""
OPENS = """
import pathlib, sys
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store import schema
schema.SCRIPTS = pathlib.Path(sys.argv[2])
RunLog.open(sys.argv[1]).close()
"""


@pytest.fixture
def engine(log_url: str) -> Iterator[Engine]:
    """A connection to the database that does not use the product."""
    made = connect(log_url)
    yield made
    made.dispose()


@pytest.fixture
def old_url(log_url: str, engine: Engine) -> str:
    """A database from before schema versions were recorded, with an ended and an open run."""
    with RunLog.open(log_url) as log:
        bring_to(log, accept(log), RunState.DONE)
        bring_to(log, accept(log), RunState.RUNNING, job_id=102)
    _execute(engine, f"DROP TABLE {schema.VERSION_TABLE}")
    return log_url


def _scripts(folder: Path, then: str = "") -> Path:
    """Alembic's folder of a made-up next version of the product."""
    shutil.copytree(schema.SCRIPTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions/revision_0002.py").write_text(ADDS_A_COLUMN.format(then=then))
    return folder


def _execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return schema.read(connection).revision


def _dump(engine: Engine) -> dict[str, list[Any]]:
    """All rows of all tables but alembic's, as far as this version knows their columns."""
    with engine.connect() as connection:
        return {name: sorted(map(repr, connection.execute(table.select()))) for name, table in metadata.tables.items()}


def _index_conditions(engine: Engine) -> dict[Any, str]:
    return {
        index["name"]: str(index["dialect_options"].get(f"{engine.dialect.name}_where"))
        for table in OWN_TABLES
        for index in inspect(engine).get_indexes(table.name)
    }


def _start(url: str, scripts: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OPENS, url, scripts], stderr=subprocess.PIPE, text=True)


def test_the_revisions_are_linear_and_the_product_uses_the_last() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(schema._revisions(schema.SCRIPTS))
    assert scripts.get_current_head() == schema.latest_revision()
    assert schema._revisions(schema.SCRIPTS)[0] == schema.FIRST_REVISION


def test_the_revisions_create_the_tables_that_the_code_uses(log_url: str, engine: Engine) -> None:
    with engine.begin() as connection:
        schema.migrate(connection)
    assert set(inspect(engine).get_table_names()) == {schema.VERSION_TABLE, *(table.name for table in OWN_TABLES)}
    migrated = _index_conditions(engine)  # which alembic does not compare
    with engine.begin() as connection:
        metadata.create_all(connection)
        options = {"compare_type": True, "compare_server_default": True, "version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert _index_conditions(engine) == migrated


def test_opening_an_up_to_date_database_is_one_statement(log: RunLog, log_url: str, engine: Engine) -> None:
    statements: list[str] = []

    def executed(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):  # other drivers send it where no listener sees it
            statements.append(statement)

    with engine.connect():  # the dialect's own questions to a new server
        pass
    event.listen(engine, "before_cursor_execute", executed)
    assert RunLog(engine).unfinished() == []
    assert len(statements) == 2, "the second is the query for unfinished runs"


def test_an_older_database_is_migrated_with_all_its_rows(old_url: str, engine: Engine) -> None:
    before = _dump(engine)
    with RunLog.open(old_url) as log:
        assert _revision(engine) == schema.latest_revision()
        assert _dump(engine) == before
        (run,) = log.unfinished()
        log.finish(run)
        bring_to(log, accept(log), RunState.DONE, job_id=103)
        live = rows(log)
        log.rebuild()
        assert rows(log) == live


def test_tables_that_an_older_version_did_not_have_are_created(old_url: str, engine: Engine) -> None:
    _execute(engine, "DROP TABLE biomeroworker_owed_cancel", "DROP TABLE biomeroworker_swept")
    RunLog.open(old_url).close()
    assert {table.name for table in OWN_TABLES} <= set(inspect(engine).get_table_names())


def test_a_deleted_table_is_created_again(log: RunLog, log_url: str, engine: Engine) -> None:
    _execute(engine, "DROP TABLE biomeroworker_lease", "DROP TABLE biomero_job_view")
    RunLog.open(log_url).close()
    assert {"biomeroworker_lease", "biomero_job_view"} <= set(inspect(engine).get_table_names())


def test_a_new_revision_adds_a_column_and_preserves_the_rows(
    old_url: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _dump(engine)
    with RunLog.open(old_url):  # a process of the earlier version is still at work
        monkeypatch.setattr(schema, "SCRIPTS", _scripts(tmp_path / "next"))
        RunLog.open(old_url).close()
        assert _revision(engine) == "0002"
        assert _dump(engine) == before
        with engine.connect() as connection:
            notes = set(connection.execute(text("SELECT note FROM biomeroworker_outbox")).scalars())
        assert notes == {"none"}
        with RunLog.open(old_url) as log:
            bring_to(log, accept(log), RunState.DONE, job_id=103)


def test_a_database_of_a_newer_version_is_refused_and_not_changed(
    old_url: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(schema, "SCRIPTS", _scripts(tmp_path / "next"))
        RunLog.open(old_url).close()
    before = _dump(engine)
    with pytest.raises(ConfigError, match=r"schema 0002.*knows schema 0001 at most.*Install the newer version"):
        RunLog.open(old_url)
    _execute(engine, "DROP TABLE biomeroworker_owed_cancel")  # also where something is to be made
    with pytest.raises(ConfigError, match="schema 0002"):
        RunLog.open(old_url)
    _execute(engine, "DELETE FROM biomeroworker_tracking")  # also where the read tables are to be made again
    with pytest.raises(ConfigError, match="schema 0002"):
        RunLog.open(old_url)
    assert "biomeroworker_owed_cancel" not in inspect(engine).get_table_names()
    with engine.connect() as connection:
        outbox = connection.execute(metadata.tables["biomeroworker_outbox"].select())
        assert sorted(map(repr, outbox)) == before["biomeroworker_outbox"]


def test_concurrent_migrations_wait_for_each_other(old_url: str, engine: Engine, tmp_path: Path) -> None:
    before = _dump(engine)
    scripts = _scripts(tmp_path / "next", then="time.sleep(1)")
    processes = [_start(old_url, scripts) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalars().all() == ["0002"]
    assert _dump(engine) == before


def test_a_process_killed_during_a_migration_leaves_the_database_unchanged(
    old_url: str, engine: Engine, tmp_path: Path
) -> None:
    before = _dump(engine)
    killed = _start(old_url, _scripts(tmp_path / "killed", then="os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.wait(120) == -9
    assert "note" not in {column["name"] for column in inspect(engine).get_columns("biomeroworker_outbox")}
    with RunLog.open(old_url) as log:  # this version opens it
        assert _dump(engine) == before
        assert len(log.unfinished()) == 1
    migrated = _start(old_url, _scripts(tmp_path / "next"))  # and so does the next one, which can migrate now
    assert migrated.wait(120) == 0
    assert _dump(engine) == before


@pytest.mark.sandbox
def test_no_lock_remains_after_the_migrating_transaction(postgres_url: str) -> None:
    """A connection pooler in transaction mode gives the session to another client after each transaction."""
    engine = connect(postgres_url)
    transactions: list[object] = []
    event.listen(engine, "commit", transactions.append)
    RunLog(engine)
    assert len(transactions) == 1, "the tables, their version and the lock are one transaction"
    with engine.connect() as connection:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert connection.execute(text(held)).scalar_one() == 0
    engine.dispose()


#: What an administrator takes from the account that owns the database.
_MAY_NOT_CREATE = "REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner"
_MAY_ONLY_READ = "REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM CURRENT_USER"


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "version_table", [f"DROP TABLE {schema.VERSION_TABLE}", f"REVOKE ALL ON {schema.VERSION_TABLE} FROM CURRENT_USER"]
)
def test_a_read_only_account_can_read(postgres_url: str, version_table: str) -> None:
    with RunLog.open(postgres_url) as log:
        run = accept(log)
    engine = connect(postgres_url)
    _execute(engine, version_table, _MAY_ONLY_READ, _MAY_NOT_CREATE)
    engine.dispose()
    replica = f"{postgres_url}?options=-c default_transaction_read_only=on"
    for url in (postgres_url, replica):
        with RunLog.open(url) as log:
            assert log.run(run).state is RunState.ACCEPTED
            assert log.unfinished() == [run]


@pytest.mark.sandbox
def test_an_account_without_the_privilege_to_create_tables_can_write(postgres_url: str) -> None:
    RunLog.open(postgres_url).close()
    engine = connect(postgres_url)
    _execute(engine, f"DROP TABLE {schema.VERSION_TABLE}", _MAY_NOT_CREATE)
    engine.dispose()
    with RunLog.open(postgres_url) as log:
        run = accept(log)
        bring_to(log, run, RunState.DONE)
        assert log.run(run).state is RunState.DONE


@pytest.mark.sandbox
def test_changes_that_need_another_account_are_reported(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(postgres_url)
    _execute(engine, _MAY_NOT_CREATE)
    engine.dispose()
    with pytest.raises(ConfigError, match=r"tables of the event log are missing.*permission denied.*account that may"):
        RunLog.open(postgres_url)
    _execute(engine, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    engine.dispose()
    RunLog.open(postgres_url).close()
    monkeypatch.setattr(schema, "SCRIPTS", _scripts(tmp_path / "next"))
    with pytest.raises(ConfigError, match=r"of an earlier version.*read-only transaction.*account that may"):
        RunLog.open(f"{postgres_url}?options=-c default_transaction_read_only=on")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_read_only_sqlite_file_can_be_read(tmp_path: Path, recorded: bool) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        run = accept(log)
        if not recorded:
            _execute(log._engine, f"DROP TABLE {schema.VERSION_TABLE}")
    with RunLog.open(f"sqlite:///file:{tmp_path}/log.sqlite?mode=ro&uri=true") as log:
        assert log.unfinished() == [run]


def test_an_inaccessible_sqlite_file_is_reported_without_a_wait() -> None:
    class Cursor:
        def execute(self, statement: str) -> None:
            error = sqlite3.OperationalError("attempt to write a readonly database")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY
            raise error

    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        database._write_ahead(Cursor())
    assert time.monotonic() - began < 5
