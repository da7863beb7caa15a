"""Backup and restore: what was recorded comes back, and a failure changes nothing.

The project is docker-compose.yml as it is. Only images are replaced, since none can be pulled: PostgreSQL by one from
Debian, and the services that are not needed by one that waits.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from sqlalchemy import create_engine, text

from biomeroworker.eventlog.runlog import RunLog
from tests.container import bases, compose_files
from tests.container.engine import COMPOSE, DOCKER, Engine, Result
from tests.log_steps import accept, walk

DATABASES = ("database", "database-biomero")
COMMAND_SECONDS = 300
HEALTHY_SECONDS = 120


@dataclass(frozen=True)
class Project:
    """A copy of the Compose files with an .env, and the engine that runs it."""

    engine: Engine
    folder: Path
    name: str

    def compose(self, *argv: str) -> str:
        return self.engine.compose(*argv, folder=self.folder, timeout=COMMAND_SECONDS)

    def run(self, script: str, *argv: str | Path) -> Result:
        """Run a script of deploy/ as an admin does."""
        return self.engine.attempt(
            *argv,
            program=str(self.folder / "deploy" / script),
            folder=self.folder,
            timeout=COMMAND_SECONDS,
            environment={"COMPOSE": COMPOSE},
        )

    def backup(self, *argv: str | Path) -> Path:
        done = self.run("backup.sh", *argv)
        assert done.status == 0, done.errors
        return Path(done.output.strip())

    def containers(self, service: str) -> list[str]:
        """The ids of a service's containers."""
        labels = [
            f"--filter=label=com.docker.compose.{k}={v}" for k, v in [("project", self.name), ("service", service)]
        ]
        return self.engine.run("ps", "-a", "-q", *labels).split()

    def container(self, service: str) -> dict[str, Any]:
        [found] = self.containers(service)
        return self.engine.inspect(found)

    def url(self, service: str) -> str:
        """The address of a database, as its service has it, seen from this machine."""
        user = {"database": "omero", "database-biomero": "biomero"}[service]
        secret = (self.folder / "secrets" / f"{user}_db_password").read_text()
        networks = self.container(service)["NetworkSettings"]["Networks"]
        address = next(iter(networks.values()))["IPAddress"]
        return f"postgresql+psycopg2://{user}:{secret}@{address}:5432/{user}"

    def query(self, service: str, statement: str) -> list[Any]:
        engine = create_engine(self.url(service), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                found = connection.execute(text(statement))
                return [tuple(row) for row in found] if found.returns_rows else []
        finally:
            engine.dispose()

    def names(self, service: str) -> set[str]:
        """The databases of a service but those of PostgreSQL."""
        found = self.query(service, "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
        return {name for (name,) in found}

    def destroy(self) -> None:
        self.engine.compose("down", "--volumes", "--timeout", "5", folder=self.folder, timeout=COMMAND_SECONDS)


@pytest.fixture
def project(engine: Engine, debian_image: str, tmp_path: Path) -> Iterator[Project]:
    """A project whose databases are up and empty."""
    folder = compose_files.make_project(tmp_path)
    name = f"biomeroworker-test-{uuid.uuid4().hex[:8]}"
    postgres = bases.built(engine, "postgres")
    compose_files.write_env(folder, {"POSTGRES_IMAGE": postgres})
    env = (folder / ".env").read_text()
    env = env.replace("COMPOSE_PROJECT_NAME=biomero", f"COMPOSE_PROJECT_NAME={name}")
    env = env.replace("COMPOSE_FILE=docker-compose.yml", "COMPOSE_FILE=docker-compose.yml:docker-compose.override.yml")
    (folder / ".env").write_text(env)
    waiting: dict[str, Any] = {
        "image": debian_image,
        "entrypoint": ["sleep", "infinity"],
        "user": "0",
        "init": True,
        "healthcheck": {"test": ["CMD", "true"], "interval": "1s"},
    }
    database = {"command": ["-c", "max_prepared_transactions=2"]}
    override = {"services": {"omeroserver": waiting, "biomeroworker": waiting, "database": database}}
    (folder / "docker-compose.override.yml").write_text(yaml.safe_dump(override))
    (folder / "slurm-config-override.ini").write_text("[SSH]\nhost = cluster\n")
    subprocess.run([folder / "deploy/make-secrets.sh"], check=True, capture_output=True, timeout=60)
    made = Project(engine, folder, name)
    try:
        _start(made, *DATABASES)
        yield made
    finally:
        made.destroy()


def _start(project: Project, *services: str) -> None:
    """Start services and wait until those with a health check are healthy."""
    project.compose("up", "-d", "--no-deps", *services)
    deadline = time.monotonic() + HEALTHY_SECONDS
    for service in services:
        while (state := project.container(service)["State"]).get("Health", {}).get("Status", "healthy") != "healthy":
            assert time.monotonic() < deadline, f"{service} is {state}"
            time.sleep(0.5)


def _record_runs(url: str) -> dict[UUID, list[Any]]:
    """Two runs by the product's own log, one of them ended; the history of each."""
    engine = create_engine(url)
    try:
        log = RunLog(engine)
        ended, open_one = accept(log), accept(log, parameters={"diameter": 30})
        for _ in walk(log, ended):
            pass
        return {run: _history(log, run) for run in (ended, open_one)}
    finally:
        engine.dispose()


def _read_runs(url: str, runs: dict[UUID, list[Any]]) -> dict[UUID, list[Any]]:
    engine = create_engine(url)
    try:
        log = RunLog(engine)
        return {run: _history(log, run) for run in runs}
    finally:
        engine.dispose()


def _history(log: RunLog, run: UUID) -> list[Any]:
    return [repr(event) for event in log.events(run)]


def _fill_omero(project: Project, value: str) -> None:
    project.query("database", "CREATE TABLE IF NOT EXISTS image (id bigint PRIMARY KEY, name text)")
    project.query("database", "DELETE FROM image")
    project.query("database", f"INSERT INTO image SELECT n, '{value}' FROM generate_series(1, 5000) n")


def _content(project: Project) -> list[Any]:
    """What of OMERO's database and of the log a restore could change."""
    events = project.query("database-biomero", "SELECT originator_id, originator_version FROM workflowtracker_events")
    return [project.query("database", "SELECT * FROM image ORDER BY id"), sorted(events)]


def test_runs_come_back_after_the_volumes_are_lost(project: Project) -> None:
    before = _record_runs(project.url("database-biomero"))
    assert all(before.values())
    _fill_omero(project, "nuclei")
    backup = project.backup()
    assert {one.name for one in backup.iterdir()} == {
        "MANIFEST.sha256", "about.txt", "configuration.tar", "database.dump", "database-biomero.dump",
    }  # fmt: skip
    assert backup.stat().st_mode & 0o77 == 0, "other accounts can read the backup"

    project.destroy()
    _start(project, *DATABASES)
    restored = project.run("restore.sh", backup)
    assert restored.status == 0, restored.errors

    assert _read_runs(project.url("database-biomero"), before) == before
    assert project.query("database", "SELECT count(*), min(name) FROM image") == [(5000, "nuclei")]
    assert project.names("database") == {"omero"}
    assert project.names("database-biomero") == {"biomero"}
    # new events can be recorded
    assert len(_record_runs(project.url("database-biomero"))) == 2


def test_a_database_that_is_not_empty_is_replaced_only_with_yes(project: Project) -> None:
    _record_runs(project.url("database-biomero"))
    _fill_omero(project, "first")
    backup = project.backup()
    saved = _content(project)
    _record_runs(project.url("database-biomero"))
    _fill_omero(project, "second")
    later = _content(project)

    refused = project.run("restore.sh", backup)
    assert refused.status == 1
    assert "--yes" in refused.errors
    assert _content(project) == later

    assert project.run("restore.sh", backup, "--yes").status == 0
    assert _content(project) == saved


def test_a_damaged_backup_is_refused_and_nothing_is_changed(project: Project) -> None:
    _record_runs(project.url("database-biomero"))
    _fill_omero(project, "first")
    backup = project.backup()
    before = _content(project)

    def flip_a_byte(damaged: Path) -> None:
        content = bytearray((damaged / "database.dump").read_bytes())
        content[len(content) // 2] ^= 0xFF
        (damaged / "database.dump").write_bytes(content)

    def cut(damaged: Path) -> None:
        dump = damaged / "database-biomero.dump"
        dump.write_bytes(dump.read_bytes()[:-100])

    def lose_a_dump(damaged: Path) -> None:
        (damaged / "database.dump").unlink()

    def lose_the_manifest(damaged: Path) -> None:
        (damaged / "MANIFEST.sha256").unlink()

    def cut_and_sum_again(damaged: Path) -> None:
        cut(damaged)
        files = sorted(one.name for one in damaged.iterdir() if one.name != "MANIFEST.sha256")
        sums = subprocess.run(["sha256sum", *files], cwd=damaged, capture_output=True, check=True, timeout=60).stdout
        (damaged / "MANIFEST.sha256").write_bytes(sums)

    for damage in (flip_a_byte, cut, lose_a_dump, lose_the_manifest, cut_and_sum_again):
        damaged = project.folder / damage.__name__
        shutil.copytree(backup, damaged)
        damage(damaged)
        refused = project.run("restore.sh", damaged, "--yes")
        assert refused.status == 1, damage.__name__
        assert "nothing was changed" in refused.errors, refused.errors
        assert _content(project) == before, damage.__name__


def test_a_restore_that_fails_at_the_second_database_changes_neither(project: Project) -> None:
    _record_runs(project.url("database-biomero"))
    _fill_omero(project, "first")
    # can be dumped, but not be restored under another name
    here = "CREATE FUNCTION here() RETURNS bool LANGUAGE sql AS $$ SELECT current_database() = 'omero' $$"
    project.query("database", here)
    project.query("database", "CREATE TABLE only_here (n int CHECK (here()))")
    project.query("database", "INSERT INTO only_here VALUES (1)")
    backup = project.backup()
    project.query("database", "DROP TABLE only_here")
    before = _content(project)

    failed = project.run("restore.sh", backup, "--yes")
    assert failed.status != 0
    assert "nothing was changed" in failed.errors
    assert "only_here" in failed.errors
    _nothing_was_changed(project, before)


def test_a_restore_that_fails_when_the_second_database_takes_its_place_undoes_the_first(project: Project) -> None:
    _record_runs(project.url("database-biomero"))
    _fill_omero(project, "first")
    backup = project.backup()
    _fill_omero(project, "second")
    _record_runs(project.url("database-biomero"))
    before = _content(project)
    # no other way to keep a database from being renamed: what a prepared transaction uses cannot be ended from outside
    project.query("database", "BEGIN; CREATE TABLE t (n int); PREPARE TRANSACTION 'open'")

    failed = project.run("restore.sh", backup, "--yes")
    assert failed.status != 0
    assert "being accessed by other users" in failed.errors
    _nothing_was_changed(project, before)
    project.query("database", "ROLLBACK PREPARED 'open'")
    assert project.run("restore.sh", backup, "--yes").status == 0
    assert _content(project) != before


def _nothing_was_changed(project: Project, before: list[Any]) -> None:
    assert _content(project) == before
    assert project.names("database") == {"omero"}
    assert project.names("database-biomero") == {"biomero"}


def test_services_that_ran_are_stopped_for_a_restore_and_started_again(project: Project) -> None:
    _fill_omero(project, "first")
    _record_runs(project.url("database-biomero"))
    backup = project.backup()
    _start(project, "biomeroworker")
    earlier = project.container("biomeroworker")["State"]

    assert project.run("restore.sh", backup, "--yes").status == 0
    later = project.container("biomeroworker")["State"]
    assert later["Running"]
    assert later["StartedAt"] > earlier["StartedAt"]
    assert not project.containers("omeroserver"), "a service was started that had not run"


def test_files_of_omero_are_in_the_backup_if_wanted(project: Project) -> None:
    _start(project, "omeroserver")
    _fill_omero(project, "first")
    _in_omero(project, "mkdir -p /OMERO/Files/Dir-001 && echo first > /OMERO/Files/Dir-001/1 && echo x > /OMERO/old")
    backup = project.backup("--omero-files", project.folder / "elsewhere")
    assert backup.parent == project.folder / "elsewhere"
    _in_omero(project, "echo second > /OMERO/Files/Dir-001/1 && rm /OMERO/old && echo x > /OMERO/new")

    refused = project.run("restore.sh", backup)
    assert refused.status == 1
    assert "OMERO's files are there" in refused.errors
    assert _in_omero(project, "cat /OMERO/Files/Dir-001/1; ls -A /OMERO").split() == ["second", "Files", "new"]

    assert project.run("restore.sh", backup, "--yes").status == 0
    assert _in_omero(project, "cat /OMERO/Files/Dir-001/1; ls -A /OMERO").split() == ["first", "Files", "old"]


def _in_omero(project: Project, command: str) -> str:
    return project.compose("exec", "-T", "omeroserver", "sh", "-c", command)


def test_a_backup_that_fails_leaves_nothing_behind(project: Project) -> None:
    project.compose("stop", "database")
    failed = project.run("backup.sh")
    assert failed.status == 1
    assert "pg_dump of database failed" in failed.errors
    assert not list((project.folder / "backups").iterdir())


def test_no_password_is_in_a_backup_nor_in_an_argument(project: Project) -> None:
    _fill_omero(project, "first")
    argv, wrappers = project.folder / "argv", project.folder / "wrappers"
    wrappers.mkdir()
    for program in (DOCKER, COMPOSE):  # both note what they are called with
        wrapper = wrappers / Path(program).name
        wrapper.write_text(f"""#!/bin/sh\nprintf '%s\\n' "$*" >> {argv}\nexec {program} "$@"\n""")
        wrapper.chmod(0o755)
    done = project.engine.attempt(
        program=str(project.folder / "deploy/backup.sh"),
        folder=project.folder,
        timeout=COMMAND_SECONDS,
        environment={"COMPOSE": "docker-compose", "PATH": f"{wrappers}:{project.engine.environment['PATH']}"},
    )
    assert done.status == 0, done.errors
    assert "pg_dump" in argv.read_text()
    passwords = [one.read_bytes() for one in (project.folder / "secrets").glob("*_password")]
    assert len(passwords) == 3
    for file in [argv, *Path(done.output.strip()).iterdir()]:
        for password in passwords:
            assert password not in file.read_bytes(), f"a password is in {file}"
