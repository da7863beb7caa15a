"""Carry the runs of a log until told to stop: the process that an admin keeps alive.

One step at a time; a run that waits (for the scheduler, for a retry) does not hold up the others. A run is leased
before it is touched, so that two supervisors, or a supervisor and a ``biomeroworker run`` in a shell, never carry the
same one.
"""

from __future__ import annotations

import heapq
import os
import socket
import threading
import time
import uuid
from uuid import UUID

from biomeroworker import errors
from biomeroworker.engine.carrier import Carrier
from biomeroworker.errors import Transient
from biomeroworker.log.runlog import RunLog

#: Seconds between two looks for runs that others have accepted.
LOOK_INTERVAL = 1.0
#: A lease that is not renewed for so long belongs to a dead supervisor.
LEASE_SECONDS = 60.0


class Supervisor:
    """Carries every unfinished run of the log, or only those asked for."""

    def __init__(self, log: RunLog, carrier: Carrier) -> None:
        self._log, self._carrier = log, carrier
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._held: set[UUID] = set()

    def stop(self) -> None:
        """Stop after the step that is under way; safe to call from a signal handler."""
        self._stop.set()

    def serve(self) -> None:
        """Carry all runs until `stop` is called."""
        due: dict[UUID, float] = {}
        last_look = -LOOK_INTERVAL
        with _Renewal(self._log, self.holder, self._held):
            while not self._stop.is_set():
                now = time.monotonic()
                if now - last_look >= LOOK_INTERVAL:
                    last_look = now
                    for run_id in self._unfinished():
                        due.setdefault(run_id, now)
                ready = [
                    run_id for run_id, when in heapq.nsmallest(1, due.items(), key=lambda item: item[1]) if when <= now
                ]
                if not ready:
                    self._stop.wait(0.1)
                    continue
                wait = self._step(ready[0])
                if wait is None:
                    del due[ready[0]]
                else:
                    due[ready[0]] = time.monotonic() + wait
        for run_id in list(self._held):
            self._log.release(run_id, self.holder)

    def carry(self, run_id: UUID) -> None:
        """Carry one run to its end, or until it is paused or `stop` is called; for a person who watches."""
        with _Renewal(self._log, self.holder, self._held):
            while not self._stop.is_set():
                wait = self._step(run_id)
                if wait is None:
                    break
                self._stop.wait(wait)
        if run_id in self._held:
            self._log.release(run_id, self.holder)

    def _step(self, run_id: UUID) -> float | None:
        """One step of one run, if it is ours to take; seconds to the next, None when there is none."""
        try:
            if not self._log.lease(run_id, self.holder, LEASE_SECONDS):
                return LEASE_SECONDS / 4
            self._held.add(run_id)
            wait = self._carrier.advance(run_id)
            if wait is None:
                self._held.discard(run_id)
                self._log.release(run_id, self.holder)
            return wait
        except Exception as error:  # the log itself is away: nothing can be recorded, so nothing may be done
            if isinstance(errors.classify(error), Transient):
                return 5.0
            raise

    def _unfinished(self) -> list[UUID]:
        try:
            return self._log.unfinished()
        except Exception as error:
            if isinstance(errors.classify(error), Transient):
                return []
            raise


class _Renewal:
    """Keeps the leases alive while a long step (an export, a transfer) is under way."""

    def __init__(self, log: RunLog, holder: str, held: set[UUID]) -> None:
        self._log, self._holder, self._held = log, holder, held
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease renewal", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(LEASE_SECONDS)

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_SECONDS / 4):
            for run_id in list(self._held):
                try:
                    self._log.lease(run_id, self._holder, LEASE_SECONDS)
                except Exception as error:
                    if not isinstance(errors.classify(error), Transient):
                        raise
