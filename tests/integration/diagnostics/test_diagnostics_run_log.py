"""The run log's section against the log itself, in both databases."""

import hashlib

import pytest
from sqlalchemy import inspect, text

from biomeroworker.diagnostics import sections
from biomeroworker.diagnostics.collect import context_of
from biomeroworker.diagnostics.redaction import Redactor
from biomeroworker.diagnostics.run_log import run_log
from biomeroworker.eventlog.database import connect
from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.log_steps import accept, bring_to


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """A separate database; PostgreSQL is started only for the test that uses it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/runs.sqlite"
        return
    base = request.getfixturevalue("postgres")
    name = "diagnostics_" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    engine = connect(base).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield base.rpartition("/")[0] + f"/{name}"
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    engine.dispose()


def collected(url, home):
    """The section's result."""
    context = context_of(None, {"HOME": str(home), "SQLALCHEMY_URL": url})
    return sections.run(sections.Section("run-log", 60, run_log), context)


def test_the_archive_has_counts_paused_runs_with_their_reason_and_the_last_events(url, tmp_path):
    with RunLog.open(url) as log:
        running, stopped, done = accept(log), accept(log), accept(log)
        bring_to(log, running, RunState.RUNNING)
        bring_to(log, done, RunState.DONE)
        bring_to(log, stopped, RunState.EXPORTING)
        log.pause(stopped, "no space left on /scratch\nsecond line", RunState.EXPORTING)
    result = collected(url, tmp_path)
    files = dict(result.files)
    assert result.notes.missing == []
    assert files["run-log/counts.txt"].splitlines()[:3] == ["done: 1", "exporting (paused): 1", "running: 1"]
    paused = files["run-log/paused-runs.txt"].splitlines()
    assert len(paused) == 2
    assert paused[1].startswith(f"{stopped}\tnuclei\texporting\t")
    assert paused[1].endswith("no space left on /scratch second line")
    assert "paused runs: 1, see run-log/paused-runs.txt" in result.notes.findings
    open_runs = files["run-log/open-runs.txt"]
    assert str(running) in open_runs
    assert str(done) not in open_runs
    assert "WorkflowRun.WorkflowInitiated" in files["run-log/last-events.txt"]
    shown = Redactor()(open_runs)
    assert str(running) not in shown
    assert str(running)[:8] in shown, "a run is recognised by the first part of its id"


def test_no_table_is_created_in_an_empty_database(url, tmp_path):
    result = collected(url, tmp_path)
    assert len(result.notes.missing) == 1
    if url.startswith("sqlite"):
        assert not (tmp_path / "runs.sqlite").exists()
        return
    engine = connect(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
