"""A database that biomero 2.8.3 wrote opens here, shows its history, and continues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, inspect, text

from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store import schema
from tests.log_steps import accept, bring_to, newest, rows

DATA = Path(__file__).parents[2] / "data" / "compat"
EXPECTED = json.loads((DATA / "biomero-2.8.3-store.expected.json").read_text())

pytestmark = pytest.mark.sandbox

VIEWS = {
    "biomero_job_view": "slurm_job_id",
    "biomero_job_progress_view": "slurm_job_id",
    "biomero_workflow_progress_view": "workflow_id",
    "biomero_task_execution": "task_id",
}


def _restore(url: str) -> None:
    statements = (DATA / "biomero-2.8.3-store.sql").read_text().splitlines()
    script = "\n".join(line for line in statements if not line.startswith("\\"))  # psql's own commands
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.connection.cursor().execute(script)  # several statements at once: past SQLAlchemy
    engine.dispose()


def _views(url: str) -> dict[str, list[dict[str, Any]]]:
    engine = create_engine(url)
    found = {}
    with engine.connect() as connection:
        for table, key in VIEWS.items():
            result = connection.execute(text(f"SELECT * FROM public.{table} ORDER BY {key}"))
            found[table] = [dict(row) for row in result.mappings()]
    engine.dispose()
    return found


@pytest.fixture
def store_url(postgres_url: str) -> str:
    _restore(postgres_url)
    return postgres_url


@pytest.fixture
def store(store_url: str) -> Iterator[RunLog]:
    with RunLog.open(store_url) as log:
        yield log


def test_the_history_of_the_incumbent_is_complete(store: RunLog) -> None:
    assert newest(store) == EXPECTED["max_notification"]
    states = {"open": RunState.RUNNING, "failed": RunState.FAILED, "done": RunState.DONE}
    for expected in EXPECTED["runs"]:
        run = store.run(UUID(expected["workflow_id"]))
        assert (run.user, run.group) == (expected["user"], expected["group"])
        assert run.state is states[expected["fate"]]
        assert [str(task) for task in run.tasks] == [task["task_id"] for task in expected["tasks"]]
        for described in expected["tasks"]:
            task = store.tracker.task(UUID(described["task_id"]))
            assert (task.task_name, task.task_version) == (described["name"], described["version"])
            assert task.job_ids == ([] if described["job"] is None else [described["job"]])
            assert task.ended is (described["fate"] != "open")
    lines = {str(line.id): line for line in store.runs(limit=1000)}
    assert {key: line.state for key, line in lines.items()} == {
        run["workflow_id"]: states[run["fate"]] for run in EXPECTED["runs"]
    }
    assert store.unfinished() == [], "the runs of another program are not taken over"


def test_dashboards_read_the_same_rows_as_before(store_url: str) -> None:
    before = _views(store_url)
    RunLog.open(store_url).close()
    after = _views(store_url)
    for table in ("biomero_job_view", "biomero_job_progress_view", "biomero_task_execution"):
        assert after[table] == before[table]
    for old, new in zip(before["biomero_workflow_progress_view"], after["biomero_workflow_progress_view"], strict=True):
        if old["status"] == "JOB_RUNNING":
            # biomero showed the percentage of the previous task; the job itself reports 43 %
            assert (old["progress"], new["progress"]) == ("90.0%", "67.2%")
            old = old | {"progress": new["progress"]}
        assert new == old


def test_a_store_of_the_incumbent_gets_a_schema_version_and_its_events_are_unchanged(store_url: str) -> None:
    engine = create_engine(store_url)
    with engine.connect() as connection:
        events = connection.execute(text("SELECT * FROM public.workflowtracker_events ORDER BY id")).all()
    RunLog.open(store_url).close()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT * FROM public.workflowtracker_events ORDER BY id")).all() == events
        assert schema.read(connection).is_current
    engine.dispose()


def test_no_table_or_column_of_the_incumbent_is_changed(store_url: str) -> None:
    def tables() -> dict[str, list[str]]:
        engine = create_engine(store_url)
        found = {
            name: [column["name"] for column in inspect(engine).get_columns(name, schema="public")]
            for name in inspect(engine).get_table_names(schema="public")
        }
        engine.dispose()
        return found

    before = tables()
    RunLog.open(store_url).close()
    after = tables()
    assert {name: after[name] for name in before} == before


def test_an_open_run_of_the_incumbent_is_ended_through_its_interface(store: RunLog) -> None:
    described = next(run for run in EXPECTED["runs"] if run["fate"] == "open")
    run, job = UUID(described["workflow_id"]), described["tasks"][-1]
    task = UUID(job["task_id"])
    store.tracker.update_task_status(task, "COMPLETED")
    store.tracker.update_task_progress(task, "100%")
    store.tracker.complete_task(task, "ok")
    store.tracker.complete_workflow(run)
    assert store.run(run).state is RunState.DONE
    found = rows(store)
    (line,) = [row for row in found["biomero_workflow_progress_view"] if row["workflow_id"] == run]
    assert (line["status"], line["progress"], line["task"]) == ("DONE", "100%", job["name"])
    (progress,) = [row for row in found["biomero_job_progress_view"] if row["slurm_job_id"] == job["job"]]
    assert (progress["status"], progress["progress"]) == ("COMPLETED", "100%")
    (execution,) = [row for row in found["biomero_task_execution"] if row["task_id"] == task]
    assert execution["status"] == "COMPLETED"
    assert execution["end_time"] is not None


def test_new_runs_are_added_beside_old_ones(store: RunLog) -> None:
    run = accept(store)
    bring_to(store, run, RunState.DONE, job_id=4001)
    assert store.run(run).state is RunState.DONE
    assert newest(store) > EXPECTED["max_notification"]
    assert len(store.runs()) == len(EXPECTED["runs"]) + 1
    live = rows(store)
    store.rebuild()
    assert rows(store) == live


def test_grants_and_views_upon_the_tables_survive_a_rebuild(store_url: str) -> None:
    engine = create_engine(store_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW public.my_dashboard AS SELECT count(*) AS n FROM biomero_job_view"))
        connection.execute(text("GRANT SELECT ON biomero_job_view TO PUBLIC"))
    with RunLog.open(store_url) as log:
        log.rebuild()
    with engine.connect() as connection:
        jobs = sum(task["job"] is not None for run in EXPECTED["runs"] for task in run["tasks"])
        assert connection.execute(text("SELECT n FROM public.my_dashboard")).scalar_one() == jobs
        granted = "SELECT relacl::text FROM pg_class WHERE relname = 'biomero_job_view'"
        assert "=r/" in connection.execute(text(granted)).scalar_one()
    engine.dispose()
