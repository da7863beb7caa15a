"""Small tables of runs, jobs, workflows and findings, for notebooks and shells."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

from rich.console import Console
from rich.table import Table as RichTable
from sqlalchemy import select

from biomeroworker.config import Settings
from biomeroworker.domain.findings import Finding, warn
from biomeroworker.eventlog.detached import waiting_runs
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.tables import VIEWS
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.store import Network

_ROWS = 50
_WIDTH = 120


class Table(Sequence[Any]):
    """Rows with columns: a sequence of the rows, and a table where it is shown.

    Parameters
    ----------
    columns
        The text of each column, made from a row.
    """

    def __init__(self, title: str, rows: Sequence[Any], columns: Mapping[str, Callable[[Any], object]]) -> None:
        self.title = title
        self._rows = list(rows)
        self._columns = dict(columns)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Table(self.title, self._rows[index], self._columns)
        return self._rows[index]

    def _texts(self) -> Iterator[list[str]]:
        for row in self._rows:
            values = [text(row) for text in self._columns.values()]
            yield ["" if value is None else str(value) for value in values]

    def __rich__(self) -> RichTable:
        made = RichTable(*self._columns, title=self.title, title_justify="left")
        for texts in self._texts():
            made.add_row(*(text.replace("[", "\\[") for text in texts))
        return made

    def __repr__(self) -> str:
        stream = io.StringIO()
        Console(file=stream, width=_WIDTH, color_system=None).print(self.__rich__())
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self._columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in texts)}</tr>" for texts in self._texts()
        )
        caption = f"<caption>{html.escape(self.title)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class JobRow(NamedTuple):
    """A job of the event log."""

    job_id: int
    status: str
    progress: str | None
    user: int | None
    group: int | None
    task_id: Any


class WorkflowRow(NamedTuple):
    """A workflow of the configuration. ``problem`` is why it is disabled; empty if it is not."""

    name: str
    image: str
    repo: str
    problem: str


def runs(log: RunLog) -> Table:
    """The latest runs."""
    return Table(
        "runs", log.runs(limit=_ROWS),
        {
            "run": lambda one: one.id, "workflow": lambda one: one.workflow or one.name,
            "state": lambda one: f"{one.state.value} (paused)" if one.paused else one.state.value,
            "started": lambda one: f"{one.started:%Y-%m-%d %H:%M}", "job": lambda one: one.job_id,
            "user": lambda one: one.user, "message": lambda one: one.message,
        },
    )  # fmt: skip


def jobs(log: RunLog) -> Table:
    """The latest jobs."""
    progress, owner = VIEWS.job_progress.c, VIEWS.jobs.c
    query = (
        select(owner.slurm_job_id, progress.status, progress.progress, owner.user, owner.group, owner.task_id)
        .join_from(VIEWS.jobs, VIEWS.job_progress, progress.slurm_job_id == owner.slurm_job_id, isouter=True)
        .order_by(owner.slurm_job_id.desc())
        .limit(_ROWS)
    )
    with log.engine.connect() as connection:
        rows = [JobRow(row[0], row[1] or "UNKNOWN", *row[2:]) for row in connection.execute(query)]
    return Table(
        "jobs", rows,
        {
            "job": lambda one: one.job_id, "status": lambda one: one.status, "progress": lambda one: one.progress,
            "user": lambda one: one.user, "task": lambda one: one.task_id,
        },
    )  # fmt: skip


def workflows(settings: Settings) -> Table:
    """The configured workflows. Descriptors that are not in the cache are not fetched."""
    catalogue = Catalogue(settings, Network.NEVER)
    images = {name: workflow.container_image for name, workflow in catalogue.usable()}
    rows = [
        WorkflowRow(name, images.get(name, ""), one.repo, catalogue.problems.get(name, ""))
        for name, one in settings.workflows.items()
    ]
    return Table(
        "workflows", rows,
        {
            "workflow": lambda one: one.name, "image": lambda one: one.image, "descriptor": lambda one: one.repo,
            "problem": lambda one: one.problem,
        },
    )  # fmt: skip


def findings(found: Sequence[Finding]) -> Table:
    """The findings of the doctor."""
    return Table(
        "doctor", found,
        {
            "level": lambda one: one.level, "subject": lambda one: one.subject, "message": lambda one: one.message,
            "remedy": lambda one: one.remedy, "setting": lambda one: one.setting,
        },
    )  # fmt: skip


def detached(log: RunLog) -> list[Finding]:
    """A finding about the detached runs of biomero 2.9 that wait."""
    waiting = waiting_runs(log)
    if not waiting:
        return []
    named = "; ".join(map(str, waiting))
    return [warn("detached runs", f"{len(waiting)} runs of biomero are not executed here: {named}", "start them again")]
