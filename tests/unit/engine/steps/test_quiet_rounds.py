"""A poll whose answer repeats the last one makes no database query."""

from types import SimpleNamespace
from uuid import uuid4

from sqlalchemy import event

from biomeroworker.config import Settings
from biomeroworker.domain.job_status import JobState, JobStatus
from biomeroworker.engine.steps.cancellation import JobCanceller
from biomeroworker.engine.steps.context import EngineContext
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.engine.steps.job_monitor import JobMonitor
from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.fakes.guards import unleased


def test_a_poll_without_news_makes_no_database_query(tmp_path):
    answer = {"state": JobState.RUNNING}

    def status(names, since):
        return {name: [JobStatus(name, 7, answer["state"], answer["state"].name)] for name in names}

    cluster = SimpleNamespace(status=status, learn_job_id=lambda name, job_id: None)
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        ctx = EngineContext(log, {"": cluster}, {}, Settings.load(environ={}))
        monitor = JobMonitor(ctx, FaultHandler(ctx, JobCanceller(ctx)))
        run = log.accept({"workflow": "w"}, name="n", description="d", user=1, group=1, run_id=uuid4())
        log.intend(run, RunState.EXPORTING)
        log.begin_attempt(run, 1, f"biomero-{run}-1")
        log.intend(run, RunState.SUBMITTING, attempt=1)
        log.submitted(run, 1, 7)
        leased = unleased(run)
        assert monitor.poll("", [leased]) == {run: False}, "the state RUNNING is new"
        statements = []
        event.listen(log._engine, "before_cursor_execute", lambda *words: statements.append(words[2]))
        for _ in range(3):
            assert monitor.poll("", [leased]) == {}
        assert statements == []
        answer["state"] = JobState.COMPLETED
        assert monitor.poll("", [leased]) == {run: True}
        assert log.run(run).state is RunState.FETCHING
