"""Execute the runs of a log, any number at once, until a stop request: the process that an admin keeps running.

This thread decides; a few workers act. A run is in the hands of at most one worker, and of at most one supervisor: it
is leased before it is touched, and nothing is done for a run whose lease may have expired, for instance because this
process was suspended. Runs that wait for the scheduler cost nothing: one poll of a cluster serves all of its runs.

A step may take hours (the export of a screen), so short work never waits for a worker: polls and maintenance tasks have
threads of their own, one of each at a time, and so have cancels. A running step is interrupted by a cancel or a lost
lease where it checks its guard.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from biomeroworker import errors
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.engine.poll_schedule import PollSchedule
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.steps.guards import CancelToken, LeaseGuard
from biomeroworker.engine.steps.leased_run import LeasedRun, Next, StepResult
from biomeroworker.errors import Fault, Transient
from biomeroworker.eventlog.runlog import RunLog

logger = logging.getLogger(__name__)

#: Steps that run at once; exports, transfers and imports share the network and the cores.
WORKERS = 4
#: Threads for the cancel steps.
CANCEL_WORKERS = 2
_TICK_SECONDS = 0.05


@dataclass
class _ManagedRun:
    """A run that this supervisor executes."""

    leased: LeasedRun
    due: float  #: ``time.monotonic()`` of its next step; infinite while only a poll can find out
    busy: bool = False
    cancel_requested: bool = False  #: its next step is the cancel


@dataclass(frozen=True)
class _StepDone:
    managed: _ManagedRun
    result: StepResult


@dataclass(frozen=True)
class _StepFailed:
    """The step failed and not even its fault could be recorded."""

    managed: _ManagedRun
    error: Exception


@dataclass(frozen=True)
class _PollDone:
    cluster: str
    news: dict[UUID, bool]  #: for each run with news, whether its next step is due


@dataclass(frozen=True)
class _PollFailed:
    cluster: str
    runs: Sequence[LeasedRun]
    fault: Fault


@dataclass(frozen=True)
class _CancelsRetried:
    pass


_Event = _StepDone | _StepFailed | _PollDone | _PollFailed | _CancelsRetried


class Supervisor:
    """Executes every unfinished run of the log, or only one.

    Parameters
    ----------
    poll_seconds
        The longest interval between two polls of a cluster; by default that of each cluster's settings.
    maintenance
        Periodic tasks that run meanwhile.
    """

    def __init__(
        self,
        log: RunLog,
        executor: RunExecutor,
        *,
        workers: int = WORKERS,
        poll_seconds: float | None = None,
        maintenance: MaintenanceScheduler | None = None,
    ) -> None:
        self._log, self._executor, self._poll_seconds = log, executor, poll_seconds
        self._timing = executor.ctx.timing
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._workers = workers
        self._stop = threading.Event()
        self._only: UUID | None = None
        self._finished = False
        self._runs: dict[UUID, _ManagedRun] = {}
        self._leased_until = -math.inf
        self._synced_at = self._renewed_at = -math.inf
        # the run that is furthest goes first: else all runs are exported before one is computed, and fill the disk
        self._step_queue: queue.PriorityQueue[tuple[float, int, _ManagedRun | None]] = queue.PriorityQueue()
        self._cancel_queue: queue.SimpleQueue[_ManagedRun | None] = queue.SimpleQueue()
        self._tickets = itertools.count()
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._poll_schedules: dict[str, PollSchedule] = {}
        self._retrying_cancels = False
        self._retry_cancels_at = -math.inf
        self._maintenance = maintenance

    def stop(self) -> None:
        """Stop soon; safe to call from a signal handler."""
        self._stop.set()

    def run_until_end(self, run_id: UUID) -> None:
        """Execute one run until it ends or is paused, or until `stop` is called; for a person who waits for it."""
        self._only = run_id
        self.serve()
        if self._maintenance:
            self._maintenance.run_due()

    def serve(self) -> None:
        """Execute all runs until `stop` is called.

        Raises only defects of this loop: faults of clusters, sources and database, and defects that concern one run,
        are handled.
        """
        for number in range(self._workers):
            _start_thread(f"worker {number}", self._work_steps)
        for number in range(CANCEL_WORKERS):
            _start_thread(f"cancel worker {number}", self._work_cancels)
        try:
            while not self._stop.is_set() and not self._finished:
                self._guarded(self._sync_leases)
                self._dispatch()
                self._process_results(_TICK_SECONDS)
        finally:
            end = time.monotonic() + self._timing.stop_grace_seconds
            while self._is_busy() and time.monotonic() < end:
                self._process_results(_TICK_SECONDS)
            for _ in range(self._workers):
                self._step_queue.put((-math.inf, next(self._tickets), None))
            for _ in range(CANCEL_WORKERS):
                self._cancel_queue.put(None)
            self._guarded(self._release_leases)

    # -- what is due --------------------------------------------------------------------------------------------------

    def _sync_leases(self) -> None:
        """Renew our leases, acquire those of free runs, read the cancel requests."""
        now, lease_seconds = time.monotonic(), self._timing.lease_seconds
        if now - self._synced_at < self._timing.sync_interval_seconds:
            return
        if now - self._renewed_at > lease_seconds / 4:
            renewed = self._log.leases.renew(self.holder, lease_seconds)
            for run_id in [run_id for run_id in self._runs if run_id not in renewed]:  # another supervisor has them
                self._runs[run_id].leased.lease.lose()
                if not self._runs[run_id].busy:
                    del self._runs[run_id]
            for run_id in renewed - self._runs.keys():  # leased to us without our knowledge: an answer was lost
                self._log.leases.release(run_id, self.holder)
            self._renewed_at, self._leased_until = now, now + lease_seconds
        for run_id in self._log.leases.acquire(self.holder, lease_seconds, only=self._only):
            if run_id not in self._runs:
                self._runs[run_id] = _ManagedRun(self._leased(run_id), due=now)
        for run_id in self._log.cancel_requests(self._runs):
            managed = self._runs[run_id]
            if not managed.busy:
                managed.due = min(managed.due, now)
            elif not managed.cancel_requested:
                managed.leased.cancel.request()
            managed.cancel_requested = True
        if self._only is not None and not self._runs:
            run = self._log.run(self._only)
            self._finished = run.state.is_terminal or run.paused
        self._synced_at = now

    def _leased(self, run_id: UUID) -> LeasedRun:
        lease = LeaseGuard(run_id, self.holder, lambda: time.monotonic() < self._leased_until)
        return LeasedRun(run_id, lease, CancelToken(run_id))

    def _dispatch(self) -> None:
        """Start what is due, while the leases are certainly valid."""
        now = time.monotonic()
        if now >= self._leased_until:
            self._synced_at = self._renewed_at = -math.inf  # this process was suspended: renew first
            return
        for managed in self._runs.values():
            if not managed.busy and managed.due <= now:
                managed.busy = True
                managed.leased.cancel.reset()
                if managed.cancel_requested:
                    self._cancel_queue.put(managed)
                else:
                    self._step_queue.put((-managed.leased.last.stage.order, next(self._tickets), managed))
        for cluster, waiting in self._waiting().items():
            schedule = self._poll_schedule(cluster)
            if schedule.is_due(now):
                schedule.in_flight = True
                _start_thread(f"poll of {cluster or 'the cluster'}", partial(self._poll, cluster, waiting))
        if now >= self._retry_cancels_at and not self._retrying_cancels:
            self._retrying_cancels = True
            _start_thread("pending cancels", self._retry_cancels)
        if self._maintenance:
            self._maintenance.start_due(now)

    def _waiting(self) -> dict[str, list[LeasedRun]]:
        """The runs whose job the scheduler has, by cluster, including those whose inputs are still being sent."""
        found: dict[str, list[LeasedRun]] = {}
        for managed in self._runs.values():
            if managed.leased.last.streaming or (managed.due == math.inf and not managed.busy):
                found.setdefault(managed.leased.last.cluster, []).append(managed.leased)
        return found

    def _poll_schedule(self, cluster: str) -> PollSchedule:
        if cluster not in self._poll_schedules:
            given = self._poll_seconds
            longest = self._executor.poll_seconds(cluster) if given is None else given
            self._poll_schedules[cluster] = PollSchedule(longest, self._timing)
        return self._poll_schedules[cluster]

    def _is_busy(self) -> bool:
        return any(one.in_flight for one in self._poll_schedules.values()) or any(
            managed.busy for managed in self._runs.values()
        )

    # -- workers ------------------------------------------------------------------------------------------------------

    def _work_steps(self) -> None:
        """Take the steps of the runs that are furthest, the oldest first among equals."""
        while (managed := self._step_queue.get()[2]) is not None:
            self._step(managed)

    def _work_cancels(self) -> None:
        while (managed := self._cancel_queue.get()) is not None:
            self._step(managed)

    def _step(self, managed: _ManagedRun) -> None:
        try:
            result = self._executor.advance(managed.leased)
        except Exception as error:  # the database does not answer, or the run cannot be read
            self._events.put(_StepFailed(managed, error))
        else:
            self._events.put(_StepDone(managed, result))

    def _poll(self, cluster: str, runs: Sequence[LeasedRun]) -> None:
        try:
            news = self._executor.monitor.poll(cluster, runs)
        except Exception as error:
            self._events.put(_PollFailed(cluster, runs, errors.classify(error)))
        else:
            self._events.put(_PollDone(cluster, news))

    def _retry_cancels(self) -> None:
        with contextlib.suppress(Exception):  # a cluster or the database does not answer: the log still has them
            self._executor.retry_pending_cancels()
        self._events.put(_CancelsRetried())

    # -- results ------------------------------------------------------------------------------------------------------

    def _process_results(self, seconds: float) -> None:
        """Process the events of the worker threads; wait this long for the first."""
        try:
            self._process(self._events.get(timeout=seconds))
            while True:
                self._process(self._events.get_nowait())
        except queue.Empty:
            pass

    def _process(self, event: _Event) -> None:
        match event:
            case _StepDone(managed, result):
                self._after_step(managed, result)
            case _StepFailed(managed, error):
                self._after_failure(managed, error)
            case _PollDone(cluster, news):
                self._after_poll(cluster, news)
            case _PollFailed(cluster, runs, fault):
                self._after_poll_failure(cluster, runs, fault)
            case _CancelsRetried():
                self._retrying_cancels = False
                self._retry_cancels_at = time.monotonic() + self._timing.cancel_retry_interval_seconds

    def _after_step(self, managed: _ManagedRun, result: StepResult) -> None:
        if managed.leased.lease.lost:
            self._forget(managed)
            return
        managed.leased.last = result
        match result.next:
            case Next.NOTHING:
                self._drop(managed)
            case Next.STEP:
                self._schedule(managed, result.delay)
            case Next.POLL:
                managed.busy, managed.due = False, math.inf
                self._poll_schedule(result.cluster).poll_soon(time.monotonic())  # a job may be new

    def _after_failure(self, managed: _ManagedRun, error: Exception) -> None:
        """A run whose fault cannot be recorded must not stop the others."""
        delay = self._timing.log_retry_seconds
        if not isinstance(errors.classify(error), Transient):
            delay = self._timing.quarantine_seconds
            run_id = managed.leased.id
            logger.error("run %s: no step for %.0f s, because of: %s", run_id, delay, error, exc_info=error)
        if managed.leased.lease.lost:
            self._forget(managed)
        else:
            self._schedule(managed, delay)

    @staticmethod
    def _schedule(managed: _ManagedRun, delay: float) -> None:
        managed.busy, managed.due = False, time.monotonic() + delay

    def _after_poll(self, cluster: str, news: dict[UUID, bool]) -> None:
        now = time.monotonic()
        for run_id, due in news.items():
            managed = self._runs.get(run_id)
            if due and managed is not None:
                managed.due = now
                managed.leased.last = replace(managed.leased.last, streaming=False)
        self._poll_schedule(cluster).succeeded(now, changed=bool(news))

    def _after_poll_failure(self, cluster: str, runs: Sequence[LeasedRun], fault: Fault) -> None:
        """Record the first failure; pause and release the runs when the cluster has not answered for too long."""
        monitor = self._executor.monitor
        todo = self._poll_schedule(cluster).failed(time.monotonic(), fault, monitor.patience_seconds)
        if todo.should_log:
            self._guarded(lambda: monitor.record_unreachable(runs, fault, todo.delay, give_up=todo.give_up))
        if todo.give_up:
            for leased in runs:  # paused; a run that was resumed meanwhile is acquired again
                managed = self._runs.get(leased.id)
                if managed is not None and not managed.busy:
                    self._drop(managed)

    # -- leases -------------------------------------------------------------------------------------------------------

    def _release_leases(self) -> None:
        """Release all runs for other supervisors; those with a running step later, when it has certainly ended."""
        kill_seconds = self._timing.kill_seconds
        running = {run_id for run_id, managed in self._runs.items() if managed.busy and not managed.leased.lease.lost}
        self._leased_until = min(self._leased_until, time.monotonic() + kill_seconds)
        self._log.leases.release_all(self.holder, keep=running, seconds=kill_seconds)

    def _drop(self, managed: _ManagedRun) -> None:
        """Give the lease of a run back."""
        self._forget(managed)
        self._guarded(lambda: self._log.leases.release(managed.leased.id, self.holder))
        self._synced_at = -math.inf  # it may be the run that `run_until_end` waits for

    def _forget(self, managed: _ManagedRun) -> None:
        managed.leased.lease.lose()
        if self._runs.get(managed.leased.id) is managed:
            del self._runs[managed.leased.id]

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do something that needs the database; wait a little if it does not answer. Other errors are defects."""
        try:
            act()
        except Exception as error:
            if not isinstance(errors.classify(error), Transient):
                raise
            self._stop.wait(self._timing.log_retry_seconds)


def _start_thread(name: str, act: Callable[[], None]) -> None:
    threading.Thread(target=act, name=name, daemon=True).start()
