"""Write the stores in this folder: a log with a run in each state, and the cluster that belongs to it.

This program ran against commit ff58aaa and is kept to show how its data were made; it is not run by any test, and
later versions of the modules that it imports have other names. It was called as

    python -m tests.data.stores.ff58aaa.write sqlite
    python -m tests.data.stores.ff58aaa.write postgresql URL_OF_AN_EMPTY_DATABASE

and wrote ``<kind>.sql.gz`` (the log), ``<kind>.tar.xz`` (folder of the deployment: configuration, input images, work
folder, home folder of the cluster with its SLURM) and ``<kind>.json.gz`` (what ff58aaa itself showed of the log).
"""

from __future__ import annotations

import contextlib
import gzip
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from typer.testing import CliRunner

from biomeroworker.cli import app
from biomeroworker.engine.housekeeping import Housekeeper
from biomeroworker.engine.outbox import Courier
from biomeroworker.log.runlog import RunState
from tests.log_steps import rows
from tests.resilience import child, world
from tests.resilience.test_full_folder import DF

HERE = Path(__file__).parent
COMMIT = "ff58aaa"
OTHER_TABLES = {
    "biomeroworker_lease": "run_id",
    "biomeroworker_outbox": "id",
    "biomeroworker_swept": "run_id",
    "biomeroworker_owed_cancel": "name",
    "biomeroworker_tracking": "application_name",
}
LIVE = ("PENDING", "RUNNING")


def die() -> None:
    """End this process without a trace, as a power failure does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _serve(folder: str, url: str, run_id: str, special: str) -> None:
    world.hurry()
    made = world.World(Path(folder), url)
    with made.log() as log:
        supervisor = made.supervisor(log)
        if special == "after sbatch":
            cluster = supervisor._carrier.around.clusters[""]
            submit = cluster.submit
            cluster.submit = lambda job: (submit(job), die())
        else:  # in the middle of an array's inputs
            staging = supervisor._carrier._staging
            feed, calls = staging.feed, []

            def feeds(*arguments: Any) -> float | None:
                calls.append(1)
                if len(calls) == 2:
                    die()
                return feed(*arguments)

            staging.feed = feeds
        supervisor.carry(UUID(run_id))


class Recording:
    """One deployment, in which things go wrong one after the other."""

    def __init__(self, made: world.World) -> None:
        self.world = made
        self.runs: dict[str, UUID] = {}
        self.living: set[str] = set()  # names of jobs that still run when the recording ends

    def carried(self, run_id: UUID) -> None:
        with child.running(self.world, only=str(run_id)):
            self.world.await_run(run_id)

    def killed_in(self, run_id: UUID, stage: RunState) -> None:
        process = child.start(self.world, die_in=stage.value, only=str(run_id))
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, process.exitcode

    def killed_while_its_job_runs(self, run_id: UUID) -> None:
        with child.running(self.world, only=str(run_id)) as process:
            self.world.await_run(run_id, 30, RunState.RUNNING)
            process.kill()
            process.join()

    def killed(self, run_id: UUID, special: str) -> None:
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(str(self.world.folder), self.world.url, str(run_id), special)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, process.exitcode

    def job_of(self, run_id: UUID) -> dict[str, Any]:
        (job,) = [job for job in self.world.jobs() if str(run_id) in job["name"]]
        return job

    def change_job(self, number: int, **values: Any) -> None:
        file = self.world.slurm / f"job-{number}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    def accept(self, label: str, **what: Any) -> UUID:
        self.runs[label] = self.world.accept(**what)
        return self.runs[label]

    def record(self) -> None:
        made = self.world
        with made.log() as log:
            # -- ended ------------------------------------------------------------------------------------------------
            self.carried(self.accept("done"))
            self.carried(self.accept("done, its folders removed"))
            self.carried(self.accept("failed", fail="image-1"))
            with made.log() as own:
                assert Courier(own, made.settings, {}).deliver() > 0  # closed rows of the outbox
            self.carried(self.accept("partly failed array", images=3, batch=1, fail="image-2"))
            run = self.accept("cancelled", sleep=60)
            with child.running(made, only=str(run)):
                made.await_run(run, 30, RunState.RUNNING)
                log.request_cancel(run, "ada")
                made.await_run(run)
            # -- paused -----------------------------------------------------------------------------------------------
            df = made.folder / "bin/df"
            df.write_text(DF)
            df.chmod(0o755)
            (made.home / ".full").touch()
            run = self.accept("paused")
            with child.running(made, only=str(run)):
                made.until(lambda: log.run(run).paused)
            (made.home / ".full").unlink()
            df.unlink()
            # -- killed in each state ---------------------------------------------------------------------------------
            self.accept("accepted")
            for state in (
                RunState.EXPORTING, RunState.TRANSFERRING, RunState.SUBMITTING, RunState.FETCHING, RunState.IMPORTING,
            ):  # fmt: skip
                self.killed_in(self.accept(state.value), state)
            self.killed(self.accept("submitting, the job submitted"), "after sbatch")
            (made.slurm / "delay").write_text("4")
            run = self.accept("queued")
            self.killed_in(run, RunState.QUEUED)
            assert log.run(run).state is RunState.QUEUED
            self.change_job(self.job_of(run)["number"], held=True)
            time.sleep(5)
            (made.slurm / "delay").unlink()
            self.killed_while_its_job_runs(self.accept("running", sleep=4))
            self.killed_in(self.accept("running, its end not recorded", sleep=1), RunState.RUNNING)
            self.killed(self.accept("running, its inputs not all sent", images=5, batch=1), "while it is fed")
            made.loses(1)
            run = self.accept("second attempt", images=3, batch=1)
            with child.running(made, only=str(run)):
                made.until(lambda: log.run(run).attempt == 2)
            # -- between states ---------------------------------------------------------------------------------------
            run = self.accept("after faults")
            self.killed_in(run, RunState.TRANSFERRING)
            made.link("away")
            with child.running(made, only=str(run)) as process:
                made.until(lambda: len(made.faults(run)) >= 2)
                process.kill()
                process.join()
            made.all_is_well()
            run = self.accept("accepted, a cancel requested")
            log.request_cancel(run, "ada")
            run = self.accept("running, a cancel requested", sleep=300)
            self.killed_while_its_job_runs(run)
            log.request_cancel(run, "ada")
            self.living.add(self.job_of(run)["name"])
            run = self.accept("cancelled while its job could not be reached", sleep=300)
            with child.running(made, only=str(run)) as process:
                made.await_run(run, 30, RunState.RUNNING)
                made.link("away")
                log.request_cancel(run, "ada")
                made.await_run(run)
                process.kill()
                process.join()
            made.all_is_well()
            self.living.add(self.job_of(run)["name"])
            # -- what is not a run's own ------------------------------------------------------------------------------
            assert len(log.owed.all()) == 1
            assert log.outbox.claim("a supervisor that died", 60) is not None
            notice = log.outbox.claim("another", 60)
            assert notice is not None
            log.outbox.postpone(notice, "another", 20, "the mail server does not answer")
            Housekeeper(log, {"": made.cluster()}, made.settings).remove([])
            swept = set(log.swept.claim(world.watch.timedelta(0), 1000, 0))
            failed = self.runs["failed"]
            log.swept.note((), {failed: "Permission denied"})
            with made.log() as own:
                Housekeeper(own, {"": made.cluster()}, made.settings).remove([self.runs["done, its folders removed"]])
            assert failed in swept
            # -- and a run of the scripts of before -------------------------------------------------------------------
            tracker = log.tracker
            run = self.runs["of another program"] = tracker.initiate_workflow("cellpose", "by scripts", 4, 3)
            task = tracker.add_task_to_workflow(run, "cellpose", "v1.2", {"Dataset": [7]}, {"diameter": 3.5})
            tracker.start_workflow(run)
            tracker.start_task(task)
            tracker.add_job_id(task, 4711)
            tracker.update_task_status(task, "RUNNING")
            tracker.update_task_progress(task, "43%")

    def rest(self) -> None:
        """The cluster goes on without a supervisor until what can end has ended; then no process is left."""
        for job in self.world.jobs():
            if job["name"] in self.living and job["pid"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job["pid"], signal.SIGKILL)
        end = time.monotonic() + 60
        while any(job["state"] in LIVE and not job["held"] for job in self.world.jobs()):
            assert time.monotonic() < end, self.world.jobs()
            time.sleep(0.2)
        for job in self.world.jobs():
            living = {"state": "RUNNING", "ended": 0.0, "code": 0} if job["name"] in self.living else {}
            self.change_job(job["number"], pid=0, **living)

    def shown(self) -> dict[str, Any]:
        """What the command line shows."""
        config = str(self.world.folder / "config.ini")

        def show(*words: str) -> Any:
            answer = CliRunner().invoke(app, [*words, "--json", "--config", config])
            assert answer.exit_code == 0, answer.output
            return json.loads(answer.stdout)

        with self.world.log() as log:
            views = json.loads(json.dumps(rows(log), default=str))
        engine = create_engine(self.world.url)
        with engine.connect() as connection:
            others = {
                table: [
                    dict(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY {key}")).mappings()
                ]
                for table, key in OTHER_TABLES.items()
            }
        engine.dispose()
        return {
            "written_by": COMMIT,
            "folder": str(self.world.folder),
            "labels": {label: str(run_id) for label, run_id in self.runs.items()},
            "runs": show("runs"),
            "show": {str(run_id): show("show", str(run_id)) for run_id in self.runs.values()},
            "views": views,
            "tables": json.loads(json.dumps(others, default=str)),
        }


def dump_sqlite(url: str) -> str:
    connection = sqlite3.connect(make_url(url).database or "")
    try:
        return "\n".join(connection.iterdump()) + "\n"
    finally:
        connection.close()


def dump_postgresql(url: str) -> str:
    given = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    program = max(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))
    command = [program, "--inserts", "--no-owner", "--no-privileges", given]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def main(kind: str, url: str = "") -> None:
    folder = Path(f"/tmp/store-of-{COMMIT}-{kind}")
    shutil.rmtree(folder, ignore_errors=True)
    made = world.World(folder, url or f"sqlite:///{folder}/log.sqlite")
    (folder).mkdir()
    made.make()
    recording = Recording(made)
    recording.record()
    recording.rest()
    shown = recording.shown()
    dump: Callable[[str], str] = dump_postgresql if url else dump_sqlite
    contents = {"json": json.dumps(shown, indent=1, ensure_ascii=False) + "\n", "sql": dump(made.url)}
    for suffix, content in contents.items():
        with gzip.GzipFile(HERE / f"{kind}.{suffix}.gz", "wb", mtime=0) as file:
            file.write(content.encode())
    config = folder / "config.ini"
    config.write_text("".join(line for line in config.read_text().splitlines(True) if "sqlalchemy_url" not in line))
    with tarfile.open(HERE / f"{kind}.tar.xz", "w:xz") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != "bin" and not path.name.startswith("log.sqlite"):
                archive.add(path, path.name)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
