"""A supervisor runs for months: its memory does not grow with the runs and jobs that have ended."""

from pathlib import Path

import pytest

from biomeroworker.cluster import cluster as cluster_module
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.config import Settings
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.eventlog.runlog import RunLog, RunState
from tests.fakes.transport import FakeTransport


def test_an_ended_run_is_dropped_from_memory(tmp_path: Path) -> None:
    with RunLog.open(f"sqlite:///{tmp_path}/log.sqlite") as log:
        executor = RunExecutor(log, {}, {}, Settings.load(environ={}))
        request = {"workflow": "unknown", "source": "folder", "inputs": {}}
        run = log.accept(request, name="n", description="d", user=1, group=1)
        supervisor = Supervisor(log, executor)
        supervisor.run_until_end(run)
        assert log.run(run).state is RunState.FAILED
        assert supervisor._runs == {}


def test_only_the_ids_of_the_latest_jobs_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "MAX_JOB_IDS", 3)
    cluster = Cluster(FakeTransport(tmp_path), Apptainer(), data="data", images="images", converters="converters")
    for number in range(5):
        cluster.learn_job_id(f"biomero-{number}", number)
    assert cluster._job_ids == {"biomero-2": 2, "biomero-3": 3, "biomero-4": 4}
