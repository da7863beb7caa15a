"""The client in a notebook: tables, texts, completion; and the documented snippets, unchanged."""

from __future__ import annotations

import doctest
import io
import rlcompleter
import sqlite3
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import biomero
import biomero.compat.client_settings
import biomero.compat.schema
import biomero.compat.sessions
import biomero.eventsourcing
import biomero.slurm_client
import biomero.views
from biomero import SlurmClient
from biomero.compat.overview import Table


@pytest.fixture
def run(client: SlurmClient) -> Any:
    tracker = client.workflowTracker
    run = tracker.initiate_workflow("cells", "cells v1", 5, 7)
    task = tracker.add_task_to_workflow(run, "cells", "v1", "in", {})
    tracker.add_job_id(task, 11)
    tracker.update_task_status(task, "RUNNING")
    return run


def test_runs_and_jobs_are_tables_and_sequences(client: SlurmClient, run: Any) -> None:
    assert client.runs[0].id == run
    assert str(run) in repr(client.runs)
    assert "<td>cells</td>" in client.runs._repr_html_()
    (job,) = client.jobs
    assert (job.job_id, job.status, job.user) == (11, "RUNNING", 5)
    assert "RUNNING" in repr(client.jobs[:1])
    stream = io.StringIO()
    Console(file=stream, width=200).print(client.jobs)
    assert "RUNNING" in stream.getvalue()


def test_workflows_show_why_one_is_disabled(client: SlurmClient, tmp_path: Path) -> None:
    client.slurm_model_repos = {"broken": str(tmp_path / "nothing"), "far": "https://github.com/lab/far"}
    rows = {one.name: one for one in client.workflows}
    assert rows["count"].image == "lab/count:v1"
    assert "no descriptor" in rows["broken"].problem
    assert rows["far"].problem
    assert client.deployment.cluster.transport.commands == []  # type: ignore[attr-defined]


def test_the_doctor_is_a_table(client: SlurmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.deployment, "doctor", lambda probe_nodes: iter(()))
    assert len(client.doctor()) == 0
    run = client.workflowTracker.initiate_workflow("a", "b", 5, 7)
    params = {"_biomero_detached_launcher": "2.9", "workflows": ["cells"]}
    client.workflowTracker.add_task_to_workflow(run, "SLURM_Run_Workflow.py", "2.9", "[1]", params)
    assert "detached runs" in repr(client.doctor())


def test_text_from_a_table_is_not_markup() -> None:
    table = Table("a<b", ["<script>[red]x[/red]"], {"value": lambda row: row})
    assert "<script>" not in table._repr_html_()
    assert "[red]x[/red]" in repr(table)


def test_completion_and_repr_need_no_connection(client: SlurmClient) -> None:
    completer = rlcompleter.Completer({"client": client})
    names = {completer.complete("client.", number) for number in range(500)}
    assert {"client.runs", "client.jobs", "client.workflows", "client.doctor(", "client.slurm_data_path"} <= names
    assert not client.is_connected
    assert client.deployment.cluster.transport.commands == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "module",
    [
        biomero.compat.client_settings, biomero.compat.schema, biomero.compat.sessions, biomero.eventsourcing,
        biomero.slurm_client, biomero.views,
    ],
    ids=lambda module: module.__name__,
)  # fmt: skip
def test_the_examples_of_the_docstrings_hold(module: Any) -> None:
    names = {"SlurmClient": SlurmClient, "JobView": biomero.JobView}
    result = doctest.testmod(module, extraglobs=names)
    assert (result.failed, result.attempted > 0) == (0, True)


#: From the documentation of a stack that runs biomero, unchanged.
CONFIGURATION = (
    "from biomero.slurm_client import SlurmClient; client = SlurmClient.from_config(); print(client.validate())"
)
ANALYTICS = """
from biomero import SlurmClient

slurmClient = SlurmClient(track_workflows=True,
                          enable_job_accounting=False,
                          enable_job_progress=True,
                          enable_workflow_analytics=False)
slurmClient.initialize_analytics_system(True)
print('Analytics system initialized')
"""
NOTIFICATIONS = """
from biomero import SlurmClient

slurmClient = SlurmClient.from_config()
slurmClient.workflowTracker.notification_log.section_size = 100

from pprint import pprint

notifications = slurmClient.workflowTracker.notification_log.select(54, 10)
if notifications:
    print(f'Found {len(notifications)} workflow notifications')
    [pprint(i.__dict__) for i in notifications]
else:
    print('No workflow notifications found')
"""
EVENTSOURCING = """
from biomero import WorkflowTracker

# Process events from the start (use any leader name if desired)
slurmClient.workflowTracker.pull_and_process(
    leader_name=WorkflowTracker.__name__,
    start=1
)
# Read the first page of notifications
slurmClient.workflowTracker.notification_log.select(start=1, limit=10)
# Load an aggregate by its UUID
slurmClient.workflowTracker.repository.get('747fc951-15ca-4b56-a19e-418e1db97d14')
"""


def test_the_documented_snippets_run_unchanged(
    client: SlurmClient, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOMERO_SLURM_CONFIG_FILE", str(tmp_path / "slurm.ini"))
    monkeypatch.setenv("SQLALCHEMY_URL", client.sqlalchemy_url)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:  # the run of the snippet
        database.execute(
            "UPDATE workflowtracker_events SET originator_id = '747fc95115ca4b56a19e418e1db97d14' "
            "WHERE originator_id = ?", (run.hex,),
        )  # fmt: skip
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for snippet in (CONFIGURATION, ANALYTICS, NOTIFICATIONS, EVENTSOURCING):
            exec(compile(snippet, "snippet", "exec"), names)
    assert printed.getvalue().splitlines()[:2] == ["True", "Analytics system initialized"]
    names["client"].close()
    names["slurmClient"].close()
