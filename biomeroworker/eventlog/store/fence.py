"""Let only the holder of a run's lease record what happens to it.

The loss that this module prevents: a supervisor that was stopped for longer than its lease, goes on in the middle of a
step, and records a failure of a run that another one carries well. Before the engine touches a run it says under which
lease (`held`); a write of this thread then commits only if the lease is still that holder's, which the same transaction
sees to. Writes of people and scripts (accept, cancel, resume) need no lease.
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
    """The run is carried by somebody else now: let go of it."""


_held: ContextVar[tuple[UUID, str] | None] = ContextVar("held", default=None)


@contextmanager
def held(run_id: UUID, holder: str) -> Iterator[None]:
    """What this thread records meanwhile is of this run, on behalf of this holder; nobody's lease if it is empty."""
    token = _held.set((run_id, holder) if holder else None)
    try:
        yield
    finally:
        _held.reset(token)


def question() -> ColumnElement[Any]:
    """Who holds the run that this thread records, as a column of the first statement of its transaction.

    The lease's row stays locked until the transaction ends: nobody takes the run over before.
    """
    claimed = _held.get()
    if claimed is None:
        return null()
    query = select(LEASES.c.holder).where(LEASES.c.run_id == claimed[0]).with_for_update(read=True)
    return query.scalar_subquery()


def verify(holder: str | None) -> None:
    """Raise `LeaseLost` unless the answer names the holder on whose behalf this thread records."""
    claimed = _held.get()
    if claimed is not None and claimed[1] != holder:
        raise LeaseLost(f"run {claimed[0]} is carried by somebody else")
