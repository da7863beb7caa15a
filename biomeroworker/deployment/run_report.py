"""The report of a run, also of one that failed, was cancelled or has not ended: what is known of it now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from biomeroworker.cluster.registry import Clusters
from biomeroworker.config import Settings
from biomeroworker.domain.source import Source
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.engine.steps.run_report import job_statistics
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.report import build, figures, render

logger = logging.getLogger(__name__)


def page_of(
    run: WorkflowRun, log: RunLog, clusters: Clusters, sources: Mapping[str, Source], settings: Settings
) -> bytes:
    """The page that was attached at the end of the run; without one, a page made from what is known now."""
    reference = run.outcomes.get(RunState.IMPORTING, {}).get("report")
    if reference:
        try:
            return sources[run.recorded_request.source].read_report(run.request_model, str(reference))
        except Exception as error:  # OMERO may be away, and the page may be deleted: a page without pictures helps too
            logger.warning("the attached report cannot be read, a new one is written: %s", error)
    space = Workspace(settings.worker.work_folder, run.id)
    inputs = space.read_manifest()
    report = build.build(
        run,
        log.periods(run.id),
        datetime.now(UTC),
        inputs=inputs,
        figures=figures.draw(inputs, space.inputs, space.thumbnails) if inputs else None,
        statistics=build.recorded_statistics(run) or job_statistics(lambda: clusters[run.cluster], run),
    )
    return render.render(report).encode()
