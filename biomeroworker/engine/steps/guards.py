"""The two reasons to stop a step early: its lease is lost, or its run is to be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from biomeroworker.errors import Conflict
from biomeroworker.eventlog.store.fence import LeaseLost, held


class StepCancelled(Conflict):
    """A cancel of the run was requested: this step must stop."""


class LeaseGuard:
    """The lease under which this process executes one run.

    Parameters
    ----------
    holder
        The lease's holder. Empty: there is no lease, because no other process writes to this log.
    in_term
        Whether the term of this process's leases has not run out.
    """

    def __init__(self, run_id: UUID, holder: str = "", in_term: Callable[[], bool] = lambda: True) -> None:
        self._run_id, self._holder, self._in_term = run_id, holder, in_term
        self._lost = threading.Event()

    @property
    def lost(self) -> bool:
        """Whether another process has the lease, or it was given back."""
        return self._lost.is_set()

    def lose(self) -> None:
        """The lease is not ours any more."""
        self._lost.set()

    def check(self) -> None:
        """Raise `LeaseLost` unless the lease is certainly valid, as far as this process knows."""
        if self.lost or not self._in_term():
            raise LeaseLost(f"another process may execute run {self._run_id} by now")

    @contextmanager
    def fence(self) -> Iterator[None]:
        """While the block runs, this thread records events of the run only if the log still has the lease as ours."""
        with held(self._run_id, self._holder):
            yield


class CancelToken:
    """Whether a cancel of a run was requested after its current step started."""

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._requested = threading.Event()

    def request(self) -> None:
        """Interrupt the current step."""
        self._requested.set()

    def reset(self) -> None:
        """A new step starts, which knows all requests so far."""
        self._requested.clear()

    def check(self) -> None:
        """Raise `StepCancelled` if a cancel was requested."""
        if self._requested.is_set():
            raise StepCancelled(f"a cancel of run {self._run_id} was requested")


@dataclass(frozen=True)
class StepGuard:
    """Checked before each change that a step makes outside the log."""

    lease: LeaseGuard
    cancel: CancelToken
    must_finish: bool = False  #: of an import: a cancel does not interrupt it, so that no half of the results is left

    def check(self) -> None:
        """Check that the step may continue.

        Raises
        ------
        LeaseLost
            The lease of the run may have expired.
        StepCancelled
            A cancel was requested, and the step need not finish.
        """
        self.lease.check()
        if not self.must_finish:
            self.cancel.check()
