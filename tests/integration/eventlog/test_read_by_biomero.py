"""biomero 2.8.3 itself, in its own Python environment, reads a log in which this program has recorded runs.

A facility that goes back to biomero keeps its history: each run and task can be read, and biomero makes the same read
tables from the events. Runs that biomero records afterwards are shown here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, select
from typer.testing import CliRunner

from benchmarks.incumbent import incumbent
from biomero import SlurmClient
from biomeroworker.cli import app
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.tables import EVENTS
from tests.log_steps import accept, bring_to, rows, see, walk
from tests.resilience import child
from tests.resilience.world import World

COMPAT = Path(__file__).parents[2] / "data" / "compat" / "biomero-2.8.3-store.sql"
EXPECTED = COMPAT.with_name("biomero-2.8.3-store.expected.json")
PROGRAM = Path(__file__).with_name("biomero_2_8.py")

#: Keys of biomero that have no effect here.
OLD_KEYS = "track_workflows = True\nenable_job_accounting = True\n"

#: The column that identifies a row of each read table.
KEYS = {
    "biomero_job_view": "slurm_job_id",
    "biomero_job_progress_view": "slurm_job_id",
    "biomero_workflow_progress_view": "workflow_id",
    "biomero_task_execution": "task_id",
}


def biomero(*words: str) -> Any:
    """What biomero prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [incumbent(), "-W", "ignore", PROGRAM, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def command(*words: str) -> str:
    """What the command line prints."""
    answer = CliRunner().invoke(app, list(words))
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def as_text(value: object) -> str:
    """A value as JSON text; SQLite has UUIDs without hyphens."""
    if isinstance(value, str) and len(value) == 32:
        return str(UUID(value))
    return str(value)


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def assert_read_alike(log: RunLog, runs: list[UUID]) -> None:
    """biomero reads these runs and their tasks, and makes their rows, as this program does."""
    ours = rows(log)
    url = log.engine.url.render_as_string(hide_password=False)
    found = biomero("read", url)
    with log.engine.connect() as connection:
        numbers = connection.execute(select(EVENTS.c.id).order_by(EVENTS.c.id)).scalars().all()
    assert [number for number, _ in found["events"]] == numbers
    assert {"WorkflowInitiated", "TaskCreated", "JobIdAdded", "WorkflowCompleted", "Event"} <= {
        name for _, name in found["events"]
    }
    ids = {str(run_id) for run_id in runs}
    for run_id in runs:
        run = log.run(run_id)
        theirs = found["aggregates"][str(run_id)]
        assert theirs["_version"] == run.version
        assert (theirs["name"], theirs["user"], theirs["group"]) == (run.name, run.user, run.group)
        assert theirs["tasks"] == [str(task_id) for task_id in run.tasks]
        for task_id in run.tasks:
            task, their_task = log.tracker.task(task_id), found["aggregates"][str(task_id)]
            assert their_task["workflow_id"] == str(run_id)
            for name in ("task_name", "task_version", "input_data", "params", "job_ids", "status", "result_message"):
                assert their_task[name] == plain(getattr(task, name)), name
            ids |= {str(task_id), *map(str, task.job_ids)}
    going_on = {str(run_id) for run_id in runs if not log.run(run_id).state.is_terminal}
    for table, key in KEYS.items():
        expected, read = (_by_key(views[table], key, ids) for views in (ours, found["views"]))
        for row in (row for one, row in [*expected.items(), *read.items()] if one in going_on):
            del row["status"], row["progress"]  # biomero shows the progress of the previous task, and other words
        assert read == expected, table


def _by_key(found: list[dict[str, Any]], key: str, ids: set[str]) -> dict[str, dict[str, str]]:
    """The rows with these keys, as text."""
    rows_as_text = [{name: as_text(value) for name, value in row.items()} for row in found]
    return {row[key]: row for row in rows_as_text if row[key] in ids}


@pytest.mark.sandbox
def test_a_facility_moves_here_step_by_step_and_back_to_biomero(postgres_url: str, tmp_path: Path) -> None:
    """The steps of docs/migrating.md, on a database that biomero wrote and with its ini."""
    statements = COMPAT.read_text().splitlines()
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        script = "\n".join(line for line in statements if not line.startswith("\\"))  # psql's own commands
        connection.connection.cursor().execute(script)
    engine.dispose()

    # keep the ini file: that of biomero's distribution, and one with its sections and keys
    (packaged,) = incumbent().parents[1].glob("lib/python3*/site-packages/resources/slurm-config.ini")
    shown = command("config", "show", "--origin", "--config", str(packaged))
    assert "WORKFLOWS.cellpose_job_gres" in shown
    assert str(packaged) in shown
    world = World(tmp_path / "world", postgres_url)
    world.folder.mkdir()
    world.make()
    ini = world.folder / "config.ini"
    written = ini.read_text().replace("[WORKFLOWS]", "[MODELS]").replace("[ANALYTICS]\n", "[ANALYTICS]\n" + OLD_KEYS)
    ini.write_text(written)
    assert "is ignored" in "".join(world.settings.warnings)

    # start the worker: it takes the event log over, with the history of biomero
    expected = {run["workflow_id"]: run for run in json.loads(EXPECTED.read_text())["runs"]}
    history = json.loads(command("runs", "--limit", "1000", "--json", "--config", str(ini)))
    assert {run["id"] for run in history} == set(expected)
    one = json.loads(command("show", next(iter(expected)), "--json", "--config", str(ini)))
    assert one["events"][0]["name"] == "WorkflowInitiated"

    # new runs, and programs that were written for biomero
    runs = execute_runs(world)
    with world.log() as log, SlurmClient.from_config(str(ini)) as client:
        views = rows(log)
        assert {row["status"] for row in views["biomero_workflow_progress_view"] if row["workflow_id"] in runs} == {
            "DONE", "FAILED",
        }  # fmt: skip
        job = log.run(runs[0]).job_ids[0]
        assert job in client.jobAccounting.get_jobs(user=1)[1]
        assert client.jobAccounting.get_task_id(job) in log.run(runs[0]).tasks
        assert client.workflowAnalytics.get_task_counts(user=1)["obedient", "v1.0.0"] >= len(runs)

    # go back to biomero
    with world.log() as log:
        assert_read_alike(log, runs)


def execute_runs(world: World) -> list[UUID]:
    """Runs of a supervisor: an array with a lost task and a failed one, a cancelled run, a good and a failed one."""
    world.loses(1)
    world.set_faults("sbatch", "timeout")
    array = world.accept(images=3, batch=1, fail="image-3")
    cancelled = world.accept(sleep=100)
    runs = [array, cancelled, world.accept(), world.accept(fail="image-1")]
    with child.running(world):
        world.await_run(cancelled, 40, RunState.RUNNING)
        with world.log() as log:
            log.request_cancel(cancelled, "ada")
        ended = [world.await_run(run_id, 60) for run_id in runs]
    assert [run.state for run in ended] == [RunState.DONE, RunState.CANCELLED, RunState.DONE, RunState.FAILED]
    assert ended[0].attempt >= 2, "a task was lost and repeated"
    assert any(run.faults for run in ended), "faults are recorded, too"
    return runs


@pytest.mark.slow
def test_biomero_reads_a_sqlite_log_and_continues_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/log.sqlite"
    before = UUID(biomero("record", url, "before"))  # it also makes the table with ids of 16 bytes
    with RunLog.open(url) as log:
        runs = [accept(log) for _ in range(5)]
        done, failed, cancelled, repeated, resumed = runs
        bring_to(log, done, RunState.DONE, job_id=1)
        bring_to(log, failed, RunState.RUNNING, job_id=2)
        log.fail(failed, {"message": "exit code 3"})
        bring_to(log, cancelled, RunState.RUNNING, job_id=3)
        log.request_cancel(cancelled, "ada")
        log.cancelled(cancelled, {"message": "cancelled by ada"})
        bring_to(log, repeated, RunState.RUNNING, job_id=4)
        log.fault(repeated, RunState.RUNNING, attempt=1, kind="transient", message="the node failed")
        log.begin_attempt(repeated, 2, f"biomero-{repeated}-2", excluded_nodes=["node-1"])
        log.complete(repeated, RunState.TRANSFERRING, attempt=2)
        log.intend(repeated, RunState.SUBMITTING, attempt=2)
        log.submitted(repeated, 2, 5)
        see(log, repeated, "RUNNING", attempt=2, progress="12.5")
        log.pause(resumed, "no space", RunState.EXPORTING)
        log.resume(resumed)
        for state in walk(log, resumed, 6):
            if state is RunState.IMPORTING:
                break
        assert_read_alike(log, runs)

        after = UUID(biomero("record", url, "after"))
        log.catch_up()
        states = {line.id: (line.name, line.state) for line in log.runs()}
        assert states[before] == ("before", RunState.DONE)
        assert states[after] == ("after", RunState.DONE)
        assert log.tracker.task(log.run(after).tasks[0]).job_ids == [9006]
        see(log, repeated, "COMPLETED", attempt=2)
        live = rows(log)["biomero_workflow_progress_view"]
        assert {"after"} < {row["name"] for row in live}
        log.rebuild()  # biomero skips the first event of a log, so its tables lack the run of that event
        again = rows(log)["biomero_workflow_progress_view"]
    assert [row for row in again if row["name"] == "after"] == [row for row in live if row["name"] == "after"]
    assert [row["status"] for row in again if row["name"] == "before"] == ["DONE"]
