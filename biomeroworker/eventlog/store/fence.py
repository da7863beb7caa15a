"""Fencing: only the holder of a run's lease may record events of the run.

This prevents the following error: a supervisor is suspended for longer than its lease, continues in the middle of a
step, and records a failure of a run that another supervisor executes by then. The engine executes each step inside
`held`. A write of that thread commits only if the holder still has the lease; the transaction of the write checks it.
Writes of users and scripts (accept, cancel, resume) need no lease.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, null, select

from biomeroworker.eventlog.aggregates.states import NotAllowed
from biomeroworker.eventlog.tables import LEASES


class LeaseLost(NotAllowed):
    """Another supervisor has the lease of the run: stop the step without recording anything."""


_held: ContextVar[tuple[UUID, str] | None] = ContextVar("held", default=None)


@contextmanager
def held(run_id: UUID, holder: str) -> Iterator[None]:
    """Until exit, this thread records events of this run for this holder; an empty holder needs no lease."""
    token = _held.set((run_id, holder) if holder else None)
    try:
        yield
    finally:
        _held.reset(token)


def holder_column() -> ColumnElement[Any]:
    """The current holder of the run that this thread records, as a column for the first statement of its transaction.

    The row of the lease is locked until the end of the transaction, so no supervisor acquires the run before.
    """
    claimed = _held.get()
    if claimed is None:
        return null()
    query = select(LEASES.c.holder).where(LEASES.c.run_id == claimed[0]).with_for_update(read=True)
    return query.scalar_subquery()


def verify(holder: str | None) -> None:
    """Raise `LeaseLost` unless ``holder`` (from `holder_column`) is the holder for which this thread records."""
    claimed = _held.get()
    if claimed is not None and claimed[1] != holder:
        raise LeaseLost(f"another supervisor has the lease of run {claimed[0]}")
