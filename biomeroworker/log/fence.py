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
from uuid import UUID

from sqlalchemy import Connection, select

from biomeroworker.log.states import NotAllowed
from biomeroworker.log.tables import LEASES


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


def check(connection: Connection) -> None:
    """Raise `LeaseLost` unless this thread's lease holds; it does, then, until the transaction ends."""
    claimed = _held.get()
    if claimed is None:
        return
    run_id, holder = claimed
    query = select(LEASES.c.holder).where(LEASES.c.run_id == run_id).with_for_update(read=True)
    if connection.execute(query).scalar_one_or_none() != holder:
        raise LeaseLost(f"run {run_id} is carried by somebody else")
