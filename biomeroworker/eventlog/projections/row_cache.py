"""A cache of rows of the read tables for the projection of some events. Changes are written together."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Connection, Executable, Select, Table, bindparam, or_, select

from biomeroworker.eventlog.database import insert_into
from biomeroworker.eventlog.tables import Views

Row = dict[str, Any]


class RowCache:
    """A unit of work for the read tables, inside the caller's transaction.

    Each row is read and written at most once, so the replay of a long history costs little more than reading it. The
    rows for one change are read with one statement, and on PostgreSQL also written with one.
    """

    def __init__(self, connection: Connection, views: Views) -> None:
        self.views = views
        self._connection = connection
        self._rows: dict[tuple[str, Any], Row | None] = {}
        self._changed: dict[Table, dict[Any, Row]] = {}

    def get(self, table: Table, key: UUID | int) -> Row | None:
        """The row with this primary key, or None. Change it with `put` only."""
        known = (table.name, key)
        if known not in self._rows:
            (primary,) = table.primary_key.columns
            found = self._connection.execute(select(table).where(primary == key)).mappings().one_or_none()
            self._rows[known] = dict(found) if found is not None else None
        return self._rows[known]

    def fetch(self, runs: Collection[UUID], tasks: Collection[UUID]) -> None:
        """Read the rows of these runs and tasks, and of the runs and jobs of the tasks, with one statement."""
        if not runs and not tasks:
            return
        views = self.views
        for table, keys in (
            (views.runs, runs), (views.workflow_progress, runs), (views.tasks, tasks), (views.task_execution, tasks),
        ):  # fmt: skip
            for key in keys:
                self._rows.setdefault((table.name, key), None)
        tables, query = _joined(views)
        for found in self._connection.execute(query, {"runs": list(runs), "tasks": list(tasks)}):
            values, start = tuple(found), 0
            rows: dict[Table, Row | None] = {}
            for table in tables:
                columns = table.columns.keys()
                row = dict(zip(columns, values[start : start + len(columns)], strict=True))
                start += len(columns)
                (primary,) = table.primary_key.columns
                rows[table] = row if row[primary.name] is not None else None
                if row[primary.name] is not None:
                    self._rows[table.name, row[primary.name]] = row
            task = rows[views.tasks]
            if task is not None and task["job_id"] is not None:
                self._rows.setdefault((views.job_progress.name, task["job_id"]), None)

    def put(self, table: Table, key: UUID | int, **values: Any) -> None:
        """Change these columns of a row, or add the row. In a new row, all other columns are null."""
        (primary,) = table.primary_key.columns
        if len(values) == len(table.columns) - 1 and (table.name, key) not in self._rows:
            self._rows[table.name, key] = None  # all columns are replaced, so the old row is not needed
        before = self.get(table, key)
        base = dict.fromkeys(table.columns.keys()) if before is None else before
        row = {**base, **values, primary.name: key}
        if row != before:
            self._rows[table.name, key] = row
            self._changed.setdefault(table, {})[key] = row

    def flush(self, *more: Executable) -> None:
        """Write the changed rows, and execute more statements together with them."""
        statements = [*(_upsert(table, rows, self._connection) for table, rows in self._changed.items()), *more]
        self._changed = {}
        if self._connection.dialect.name == "postgresql" and len(statements) > 1:
            *before, last = statements
            for number, statement in enumerate(before):  # the order is not relevant: each changes another table
                last = last.add_cte(statement.cte(f"change_{number}"))
            statements = [last]
        for statement in statements:
            self._connection.execute(statement)


def _upsert(table: Table, rows: dict[Any, Row], connection: Connection) -> Any:
    (primary,) = table.primary_key.columns
    bound = [
        {name: bindparam(None, value, type_=table.c[name].type, unique=True) for name, value in row.items()}
        for row in rows.values()
    ]
    statement = insert_into(table, connection).values(bound if len(bound) > 1 else bound[0])
    return statement.on_conflict_do_update(
        index_elements=[primary],
        set_={c.name: statement.excluded[c.name] for c in table.columns if c is not primary},
    )


@functools.cache
def _joined(views: Views) -> tuple[Sequence[Table], Select[Any]]:
    """The query of `fetch`: one line for each task with its run and job, and one for a run without tasks."""
    runs, progress, tasks = views.runs, views.workflow_progress, views.tasks
    execution, jobs = views.task_execution, views.job_progress
    tables = (runs, progress, tasks, execution, jobs)
    wanted: BindParameter[Any] = bindparam("tasks", expanding=True)
    lines = (
        runs.outerjoin(progress, progress.c.workflow_id == runs.c.run_id)
        .outerjoin(tasks, (tasks.c.run_id == runs.c.run_id) & tasks.c.task_id.in_(wanted))
        .outerjoin(execution, execution.c.task_id == tasks.c.task_id)
        .outerjoin(jobs, jobs.c.slurm_job_id == tasks.c.job_id)
    )
    theirs = select(tasks.c.run_id).where(tasks.c.task_id.in_(wanted)).correlate(None)
    query = select(*(column.label(f"{n}_{column.name}") for n, table in enumerate(tables) for column in table.columns))
    query = query.select_from(lines)
    return tables, query.where(or_(runs.c.run_id.in_(bindparam("runs", expanding=True)), runs.c.run_id.in_(theirs)))
