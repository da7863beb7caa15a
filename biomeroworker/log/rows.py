"""Rows of the read tables, held while some events are projected, and written back together."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from biomeroworker.log.tables import Views

Row = dict[str, Any]


class Rows:
    """A unit of work over the read tables, inside the caller's transaction.

    Each row is read at most once and written at most once, so replaying a long history costs little more than
    reading it.
    """

    def __init__(self, connection: Connection, views: Views) -> None:
        self.views = views
        self._connection = connection
        self._rows: dict[tuple[str, Any], Row | None] = {}
        self._changed: dict[Table, dict[Any, Row]] = {}

    def get(self, table: Table, key: UUID | int) -> Row | None:
        """The row of this primary key, as it is now; not to be changed but through `put`."""
        known = (table.name, key)
        if known not in self._rows:
            (primary,) = table.primary_key.columns
            found = self._connection.execute(select(table).where(primary == key)).mappings().one_or_none()
            self._rows[known] = dict(found) if found is not None else None
        return self._rows[known]

    def put(self, table: Table, key: UUID | int, **values: Any) -> None:
        """Change these columns of a row, or make the row; columns not named are null in a new row."""
        (primary,) = table.primary_key.columns
        before = self.get(table, key)
        base = dict.fromkeys(table.columns.keys()) if before is None else before
        row = {**base, **values, primary.name: key}
        if row != before:
            self._rows[table.name, key] = row
            self._changed.setdefault(table, {})[key] = row

    def flush(self) -> None:
        """Write what changed."""
        insert = sqlite_insert if self._connection.dialect.name == "sqlite" else postgresql_insert
        for table, rows in self._changed.items():
            (primary,) = table.primary_key.columns
            statement = insert(table)
            statement = statement.on_conflict_do_update(
                index_elements=[primary],
                set_={c.name: statement.excluded[c.name] for c in table.columns if c is not primary},
            )
            self._connection.execute(statement, list(rows.values()))
        self._changed = {}
