"""Runs for tests of the report: histories in a log in memory, and reports as values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.report.model import Figures, Job, Picture, RunReport, Stage

MIB, GIB = 1 << 20, 1 << 30
START = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
STATISTICS = JobStatistics(
    job_id=101,
    state="COMPLETED",
    partition="gpu",
    node="node-3",
    elapsed_seconds=260,
    time_limit_seconds=2700,
    cpus=4,
    cpu_seconds=700.0,
    allocated_cpu_seconds=1040,
    requested_memory_bytes=5 * GIB,
    max_rss_bytes=int(3.2 * GIB),
    gpus=1,
)


@contextmanager
def new_log() -> Iterator[RunLog]:
    """A log in memory."""
    with RunLog.open("sqlite://") as log:
        yield log


def report(**changes: Any) -> RunReport:
    """A report of a run that is done."""
    stages = []
    start = START
    for name, seconds in (("exporting", 12), ("queued", 95), ("running", 260), ("importing", 22)):
        stages.append(Stage(name, start, seconds))
        start += timedelta(seconds=seconds)
    made = RunReport(
        run="4f0c6f2e-96d1-4f6a-8f0e-7b7d6b7f0c11",
        workflow="nuclei",
        version="v1.3.1",
        state="done",
        outcome="Done",
        made="2 images, 19 ROIs",
        user="Ada Lovelace (7)",
        group="Imaging (12)",
        accepted=START,
        ended=start,
        written=start,
        program="biomeroworker 0.1.0",
        inputs="Dataset 301",
        input_names=(("image-1", "one.tif"), ("image-2", "two.tif")),
        parameters=(("diameter", "30", False), ("model", "nuclei", True)),
        stages=tuple(stages),
        jobs=(Job(1, "biomero-x-1", 101, STATISTICS),),
        job_options=(("time", "00:45:00"), ("exclusive", "")),
        figures=Figures(
            (Picture("one.tif", "image-1", b"\xff\xd8", {"mask": 12}), Picture("two.tif", "image-2", None, {}, "gone")),
            2,
            {"mask": (("one.tif", 12), ("two.tif", 7))},
        ),
        provenance=(("Image digest", "sha256:abc"),),
        commands=(("The same request again", "biomeroworker retry 4f0c6f2e"),),
    )
    return replace(made, **changes)
