"""Write the report of a run that is ending, and give it to the run's source.

The report is for people only: a failure to write it is recorded as a warning and never fails the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.domain.manifest import InputManifest, ResultManifest
from biomeroworker.domain.source import Output
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.errors import BiomeroWorkerError, Conflict, Transient, classify
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState

logger = logging.getLogger(__name__)

#: How often a step is repeated for a report that could not be attached; then the run is done without it.
RETRIES = 3

# The modules of the report are imported where they are used: with the image libraries they take a second, and programs
# that only submit runs do not need them.


class ReportWriter:
    """Writes the reports of runs that are done, and keeps the thumbnails that they need."""

    def __init__(self, ctx: EngineContext) -> None:
        self._log = ctx.log

    def write(
        self,
        context: RunContext,
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        made: Sequence[Output],
        partial: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Write the report and attach it; return the values that the log records.

        Parameters
        ----------
        results, folder
            The results and where they are.
        made, partial
            What the import made, and the report on failed inputs that will be recorded.

        Raises
        ------
        Transient
            The source does not answer, for the first times: repeat the step.
        """
        statistics = job_statistics(lambda: context.cluster, context.run)
        recorded: dict[str, Any] = {"statistics": [one.to_event() for one in statistics.values()]} if statistics else {}
        try:
            context.guard.check()
            context.report_progress("writing the report of the run")
            page = self._page(context, inputs, results, folder, made, partial, statistics)
            provenance = context.plan.provenance(context.run)
            reference = context.source.attach_report(context.request, page, provenance, context.guard)
        except Conflict:
            raise
        except Exception as error:
            fault = classify(error)
            if isinstance(fault, Transient) and len(context.run.consecutive_faults(RunState.IMPORTING)) < RETRIES:
                raise  # the step is repeated: it finds what is imported, and attaches the report
            problem = str(fault)
            logger.warning("run %s has no report: %s", context.id, problem, exc_info=True)
            return {**recorded, "report_problem": problem}
        return {**recorded, "report": reference}

    def _page(
        self,
        context: RunContext,
        inputs: InputManifest,
        results: ResultManifest,
        folder: Path,
        made: Sequence[Output],
        partial: Mapping[str, Any],
        statistics: Mapping[int, JobStatistics],
    ) -> Path:
        from biomeroworker.report import build, figures, render

        space = context.workspace
        drawn = figures.draw(inputs, space.inputs, space.thumbnails, results, folder, made)
        report = build.build(
            context.run,
            self._log.periods(context.id),
            datetime.now(UTC),
            state=RunState.DONE,
            made=made,
            partial=partial,
            inputs=inputs,
            results=results,
            figures=drawn,
            statistics=statistics,
        )
        page = space.folder / render.file_name(str(context.id))
        page.write_text(render.render(report), encoding="utf-8")
        return page


def job_statistics(find_cluster: Callable[[], Cluster], run: WorkflowRun) -> dict[int, JobStatistics]:
    """What the jobs of a run requested and used; empty if its cluster does not answer, or is not configured any more.

    Parameters
    ----------
    find_cluster
        Returns the cluster of the run; called only if the run has jobs.
    """
    names = {one.job_id: one.name for one in run.attempts.values() if one.job_id is not None}
    if not names:
        return {}
    try:
        return find_cluster().statistics(names)
    except BiomeroWorkerError as error:  # the figures are for information only
        logger.warning("the usage of the jobs of run %s is not known: %s", run.id, error)
        return {}


def keep_thumbnails(context: RunContext, inputs: InputManifest, chunks: Sequence[int], folder: Path) -> None:
    """Write thumbnails of exported chunks before they are deleted.

    Parameters
    ----------
    folder
        Has the folders of the chunks.
    """
    from biomeroworker.domain.manifest import folder_name
    from biomeroworker.report import figures

    for chunk in chunks:
        try:
            place = folder / folder_name(chunk)
            figures.keep_thumbnails(inputs, inputs.portions(chunk), place, context.workspace.thumbnails)
        except Exception as error:  # the report is for information only
            logger.warning("no thumbnails of chunk %d of run %s: %s", chunk, context.id, error)
