"""The report of a run is for information only: a failure to write it is recorded, and the run is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.domain.manifest import InputManifest, ResultManifest
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.engine.steps.run_report import RETRIES, ReportWriter, keep_thumbnails
from biomeroworker.errors import Permanent, Transient
from biomeroworker.eventlog.runlog import RunLog, RunState
from biomeroworker.eventlog.store.fence import LeaseLost
from tests.fakes.guards import UNGUARDED
from tests.log_steps import accept, bring_to

STATISTICS = JobStatistics(101, "COMPLETED", elapsed_seconds=7)


@pytest.fixture
def log() -> Iterator[RunLog]:
    with RunLog.open("sqlite://") as made:
        yield made


def write(
    log: RunLog, tmp_path: Path, attached: Exception | str = "File:1", used: Exception | None = None, faults: int = 0
) -> dict[str, Any]:
    """Write the report of a run that is importing, with a source and a cluster that answer as given."""
    run_id = accept(log)
    bring_to(log, run_id, RunState.IMPORTING)
    for _ in range(faults):
        log.fault(run_id, RunState.IMPORTING, attempt=1, kind="transient", message="OMERO is away")
    run = log.run(run_id)
    pages: list[str] = []

    def attach_report(request: object, page: Path, provenance: object, guard: object) -> str:
        pages.append(page.read_text())
        if isinstance(attached, Exception):
            raise attached
        return attached

    def statistics(names: dict[int, str]) -> dict[int, JobStatistics]:
        assert names == {101: run.attempts[1].name}
        if used:
            raise used
        return {101: STATISTICS}

    context: Any = SimpleNamespace(
        id=run_id,
        run=run,
        request=run.recorded_request,
        plan=SimpleNamespace(provenance=lambda run: None),
        guard=UNGUARDED,
        workspace=Workspace(tmp_path, run_id),
        cluster=SimpleNamespace(statistics=statistics),
        source=SimpleNamespace(attach_report=attach_report),
        report_progress=lambda text: None,
    )
    context.workspace.open()
    writer = ReportWriter(SimpleNamespace(log=log))  # type: ignore[arg-type]
    inputs, results = InputManifest(run="r", images=()), ResultManifest(run="r", attempt=1, files=())
    recorded = writer.write(context, inputs, results, tmp_path, [], {})
    assert len(pages) == 1
    assert f"run {run_id}" in pages[0]
    return recorded


def test_the_reference_and_the_statistics_are_recorded(log: RunLog, tmp_path: Path) -> None:
    assert write(log, tmp_path) == {"report": "File:1", "statistics": [STATISTICS.to_event()]}


@pytest.mark.parametrize("problem", [Permanent("not allowed"), RuntimeError("a defect"), OSError(28, "disk full")])
def test_a_report_that_cannot_be_attached_is_a_warning(
    log: RunLog, tmp_path: Path, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = write(log, tmp_path, attached=problem)
    assert recorded.keys() == {"report_problem", "statistics"}
    assert "has no report" in caplog.text


@pytest.mark.parametrize("faults", range(RETRIES + 1))
def test_a_source_that_is_away_is_tried_again_a_few_times(log: RunLog, tmp_path: Path, faults: int) -> None:
    if faults == RETRIES:
        assert write(log, tmp_path, Transient("OMERO is away"), faults=faults)["report_problem"] == "OMERO is away"
        return
    with pytest.raises(Transient):
        write(log, tmp_path, Transient("OMERO is away"), faults=faults)


def test_a_worker_that_lost_its_lease_does_not_go_on(log: RunLog, tmp_path: Path) -> None:
    with pytest.raises(LeaseLost):
        write(log, tmp_path, attached=LeaseLost("another process may execute the run"))


def test_a_cluster_that_does_not_answer_leaves_the_statistics_out(log: RunLog, tmp_path: Path) -> None:
    assert write(log, tmp_path, used=Transient("no connection")) == {"report": "File:1"}


def test_a_thumbnail_that_cannot_be_written_does_not_stop_the_transfer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context: Any = SimpleNamespace(id="r", workspace=SimpleNamespace(thumbnails=tmp_path))
    keep_thumbnails(context, InputManifest(run="r", images=()), [0], tmp_path)
    assert "no thumbnails of chunk 0" in caplog.text
