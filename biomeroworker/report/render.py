"""Render the report of a run as one HTML page that makes no network request. Pure.

Every text is escaped by jinja2; the page has no script, and its Content-Security-Policy forbids all other sources.
"""

from __future__ import annotations

import base64
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from biomeroworker.domain.job_statistics import JobStatistics
from biomeroworker.report.model import RunReport, Stage

#: Shown where accounting has no value.
UNKNOWN = "not recorded by this cluster"
#: Images that get a bar of their own in the plot of objects; of more images a histogram is drawn.
BARS, BINS = 32, 20
#: The narrowest bar, in percent of the width.
_MIN_PERCENT = 0.4
#: Control characters have no place in HTML, and lone surrogates none in UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def render(report: RunReport) -> str:
    """The page."""
    return _template().render(
        report=report,
        timeline=timeline(report.stages),
        plots=[plot(label, counts) for label, counts in report.figures.objects.items()],
        resources=[(job, resources(job.statistics) if job.statistics else []) for job in report.jobs],
        unknown=UNKNOWN,
    )


def file_name(run: str) -> str:
    """The name of the page of a run, for people who have several of them."""
    return f"run-report-{run[:8]}.html"


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("biomeroworker.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters.update(data_url=_data_url, duration=duration, time=_time)
    return environment.get_template("page.html.j2")


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _printable(value: Any) -> Any:
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


# -- words -----------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``12 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def memory(count: float) -> str:
    """Bytes in the units that SLURM uses, which are powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# -- drawings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A bar, in percent of the width of the drawing."""

    left: float
    width: float
    paused: bool = False


@dataclass(frozen=True)
class Row:
    """One row of a drawing: a name, its bars and a value."""

    name: str
    bars: tuple[Bar, ...]
    value: str


def timeline(stages: Sequence[Stage]) -> list[Row]:
    """A row for each state, in the order in which the run entered them first."""
    if not stages:
        return []
    start = stages[0].start
    total = max(sum(stage.seconds for stage in stages), 1e-3)
    rows: dict[str, list[Stage]] = {}
    for stage in stages:
        rows.setdefault(stage.name, []).append(stage)
    found = []
    for name, members in rows.items():
        bars = tuple(
            _bar((one.start - start).total_seconds() / total, one.seconds / total, one.paused) for one in members
        )
        paused = sum(one.seconds for one in members if one.paused)
        value = duration(sum(one.seconds for one in members))
        found.append(Row(name, bars, f"{value} ({duration(paused)} paused)" if paused else value))
    return found


def _bar(left: float, width: float, paused: bool = False) -> Bar:
    wide = min(max(100 * width, _MIN_PERCENT), 100)
    return Bar(round(min(max(100 * left, 0), 100 - wide), 3), round(wide, 3), paused)


@dataclass(frozen=True)
class Plot:
    """The objects of one label image: a bar for each image, or a histogram over many images."""

    label: str
    total: int
    images: int
    summary: str
    rows: tuple[Row, ...] = ()
    bins: tuple[tuple[Bar, float, int], ...] = ()  #: place and width, height in percent, and number of images
    low: int = 0
    high: int = 0
    most: int = 0


def plot(label: str, counts: Sequence[tuple[str, int]]) -> Plot:
    """The plot for one label image; ``counts`` has at least one image."""
    values = [count for _, count in counts]
    low, high, total = min(values), max(values), sum(values)
    median = statistics.median(values)
    summary = f"median {median:g}, from {low} to {high} per image" if len(values) > 1 else ""
    if len(counts) <= BARS:
        rows = tuple(Row(name, (_bar(0, count / high),) if count else (), str(count)) for name, count in counts)
        return Plot(label, total, len(values), summary, rows)
    step = -(-(high - low + 1) // BINS)  # a whole number: else some bins would hold more numbers than others
    number = -(-(high - low + 1) // step)
    heights = [0] * number
    for value in values:
        heights[(value - low) // step] += 1
    most = max(heights)
    bins = tuple(
        (Bar(round(100 * n / number, 3), round(100 / number, 3)), round(100 * height / most, 3), height)
        for n, height in enumerate(heights)
    )
    return Plot(label, total, len(values), summary, bins=bins, low=low, high=low + step * number - 1, most=most)


@dataclass(frozen=True)
class Resource:
    """What was requested and used of one resource; ``percent`` is None where one of the two is not known."""

    name: str
    requested: str
    used: str
    percent: float | None = None

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The used part, as a bar."""
        return (_bar(0, self.percent / 100),) if self.percent else ()


def resources(job: JobStatistics) -> list[Resource]:
    """Requested against used: time, memory, cores and GPU of a job."""
    used_cpu = UNKNOWN
    if job.cpu_seconds is not None:
        used_cpu = f"{duration(job.cpu_seconds)} of processor time"
        if job.allocated_cpu_seconds:
            used_cpu += f" of {duration(job.allocated_cpu_seconds)}"
    found = [
        Resource("Time", _or_unknown(job.time_limit_seconds, duration), _or_unknown(job.elapsed_seconds, duration),
                 _percent(job.time_fraction)),
        Resource("Memory", _or_unknown(job.requested_memory_bytes, memory), _or_unknown(job.max_rss_bytes, memory),
                 _percent(job.memory_fraction)),
        Resource("Cores", _or_unknown(job.cpus, str), used_cpu, _percent(job.cpu_fraction)),
    ]  # fmt: skip
    used_gpu = UNKNOWN if job.gpu_percent is None else f"{job.gpu_percent:g} % on average"
    if job.gpus == 0:
        found.append(Resource("GPU", "none", "none"))
    else:
        found.append(Resource("GPU", _or_unknown(job.gpus, str), used_gpu, job.gpu_percent))
    return found


def _or_unknown(value: Any, words: Any) -> str:
    return UNKNOWN if value is None else str(words(value))


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else round(100 * fraction, 1)
