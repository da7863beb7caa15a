"""Carry the runs of a log, any number at once, until told to stop: the process that an admin keeps alive.

One model: this thread decides, a few workers act. A run is in the hands of at most one worker, and of at most one
supervisor: it is leased before it is touched, and nothing is done for a run whose lease may have run out, for instance
because this process was stopped for a while. Runs that wait for the scheduler cost nothing: one question is asked of
each cluster for all of them together.

Steps may take hours (a screen that is exported), so what is short never waits for a worker: questions and chores have
threads of their own, one of each at a time, and so have the ends that people ask for. A step that is under way hears of
such a wish where it tells of its progress.
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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from biomeroworker import errors
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.engine.poll_schedule import PollSchedule
from biomeroworker.engine.steps.executor import AWAITS_SCHEDULER, RunExecutor
from biomeroworker.errors import Transient
from biomeroworker.eventlog.runlog import RunLog

logger = logging.getLogger(__name__)

#: Seconds between two looks for runs that others have accepted, resumed, or want cancelled.
SYNC_INTERVAL_SECONDS = 1.0
#: A lease that is not renewed for so long belongs to a dead supervisor.
LEASE_SECONDS = 60.0
#: Seconds between two looks for cancels that could not be delivered to the cluster.
CANCEL_RETRY_INTERVAL_SECONDS = 15.0
#: Steps that are taken at once: exports, transfers and imports share the wire and the cores.
WORKERS = 4
#: Seconds that steps under way have when the supervisor is told to stop; each can be cut off anywhere without harm.
STOP_GRACE_SECONDS = 5.0
#: What takes longer than that is cut off by whoever told it to stop, at the latest so many seconds after the grace:
#: until then nobody else may take its run.
KILL_SECONDS = 10.0
#: Seconds until a run is looked at again whose step met a defect of ours that could not be recorded.
QUARANTINE_SECONDS = 300.0
#: Threads for the ends that people ask for.
CANCEL_WORKERS = 2
_TICK_SECONDS = 0.05
_LOG_RETRY_SECONDS = 2.0


@dataclass
class _ManagedRun:
    """A run in our hands: when its next step is due (`AWAITS_SCHEDULER`: when the scheduler has news)."""

    due: float
    busy: bool = False
    lost: bool = False  #: its lease is somebody else's by now: no further step is taken
    cancel_requested: bool = False  #: somebody wants its end: its next step is that
    cancel_unseen: bool = False  #: the same, since its step began, which knows nothing of it


class Supervisor:
    """Carries every unfinished run of the log, or only one.

    Parameters
    ----------
    poll_seconds
        The longest wait between two questions to a cluster; by default what is set for each.
    maintenance
        Periodic tasks that are done meanwhile.
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
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        executor.lease(self.holder, self._lease_is_valid, self._is_cancel_unseen)
        self._workers = workers
        self._stop = threading.Event()
        self._only: UUID | None = None
        self._finished = False
        self._runs: dict[UUID, _ManagedRun] = {}
        self._leased_until = -math.inf
        self._synced_at = self._renewed_at = -math.inf
        # what is furthest goes first: else all runs are exported before one is computed, and fill the disk meanwhile
        self._step_queue: queue.PriorityQueue[tuple[float, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._cancel_queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets = itertools.count()
        self._results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._poll_schedules: dict[str, PollSchedule] = {}
        self._retrying_cancels = False
        self._retry_cancels_at = -math.inf
        self._maintenance = maintenance

    def stop(self) -> None:
        """Stop soon; safe to call from a signal handler."""
        self._stop.set()

    def run_until_end(self, run_id: UUID) -> None:
        """Carry one run to its end, or until it is paused or `stop` is called; for a person who watches."""
        self._only = run_id
        self.serve()
        if self._maintenance:
            self._maintenance.run_due()

    def serve(self) -> None:
        """Carry all runs until `stop` is called.

        Raises what is a defect of this loop: no fault of the surroundings, and no defect that one run meets.
        """
        for number in range(self._workers):
            _start_thread(f"worker {number}", self._work_steps)
        for number in range(CANCEL_WORKERS):
            _start_thread(f"ender {number}", self._work_cancels)
        try:
            while not self._stop.is_set() and not self._finished:
                self._guarded(self._sync_leases)
                self._dispatch()
                self._process_results(_TICK_SECONDS)
        finally:
            end = time.monotonic() + STOP_GRACE_SECONDS
            while self._is_busy() and time.monotonic() < end:
                self._process_results(_TICK_SECONDS)
            for _ in range(self._workers):
                self._step_queue.put((-math.inf, next(self._tickets), None))
            for _ in range(CANCEL_WORKERS):
                self._cancel_queue.put(None)
            self._guarded(self._release_leases)

    # -- what is there to do ------------------------------------------------------------------------------------------

    def _sync_leases(self) -> None:
        """Renew what is ours, take what is free, hear of wishes to cancel."""
        now = time.monotonic()
        if now - self._synced_at < SYNC_INTERVAL_SECONDS:
            return
        if now - self._renewed_at > LEASE_SECONDS / 4:
            kept = self._log.leases.renew(self.holder, LEASE_SECONDS)
            for run_id in [run_id for run_id in self._runs if run_id not in kept]:  # somebody else's by now
                if self._runs[run_id].busy:
                    self._runs[run_id].lost = True
                else:
                    del self._runs[run_id]
                    self._executor.forget(run_id)
            for run_id in kept - self._runs.keys():  # ours though we do not carry it: an answer of the log got lost
                self._log.leases.release(run_id, self.holder)
            self._renewed_at, self._leased_until = now, now + LEASE_SECONDS
        for run_id in self._log.leases.acquire(self.holder, LEASE_SECONDS, only=self._only):
            self._runs.setdefault(run_id, _ManagedRun(now))
        for run_id in self._log.cancel_requests(self._runs):
            run = self._runs[run_id]
            if not run.busy:
                run.due = min(run.due, now)
            elif not run.cancel_requested:
                run.cancel_unseen = True
            run.cancel_requested = True
        if self._only is not None and not self._runs:
            watched = self._log.run(self._only)
            self._finished = watched.state.is_terminal or watched.paused
        self._synced_at = now

    def _dispatch(self) -> None:
        """Give the workers what is due, while the leases certainly hold."""
        now = time.monotonic()
        if now >= self._leased_until:
            self._synced_at = self._renewed_at = -math.inf  # we have slept through: renew first
            return
        for run_id, run in self._runs.items():
            if not run.busy and run.due <= now:
                run.busy, run.cancel_unseen = True, False
                step = self._step_of(run_id)
                if run.cancel_requested:
                    self._cancel_queue.put(step)
                else:
                    self._step_queue.put((-self._executor.stage_of(run_id).order, next(self._tickets), step))
        for cluster, awaiting in self._awaiting().items():
            question = self._poll_schedule(cluster)
            if question.is_due(now):
                question.in_flight = True
                _start_thread(f"question to {cluster or 'the cluster'}", self._poll_of(cluster, awaiting))
        if now >= self._retry_cancels_at and not self._retrying_cancels:
            self._retrying_cancels = True
            _start_thread("cancels that are owed", self._retry_cancels)
        if self._maintenance:
            self._maintenance.start_due(now)

    def _awaiting(self) -> dict[str, list[UUID]]:
        """The runs whose job a scheduler has, by cluster; those whose inputs still travel to it among them."""
        found: dict[str, list[UUID]] = {}
        for run_id, run in self._runs.items():
            if (run.due == AWAITS_SCHEDULER and not run.busy) or self._executor.is_streaming_inputs(run_id):
                found.setdefault(self._executor.cluster_of(run_id), []).append(run_id)
        return found

    def _poll_schedule(self, cluster: str) -> PollSchedule:
        if cluster not in self._poll_schedules:
            given = self._poll_seconds
            self._poll_schedules[cluster] = PollSchedule(
                self._executor.poll_seconds(cluster) if given is None else given
            )
        return self._poll_schedules[cluster]

    def _lease_is_valid(self, run_id: UUID) -> bool:
        """Whether a run is certainly still ours: asked by workers in the middle of a step."""
        run = self._runs.get(run_id)
        return run is not None and not run.lost and time.monotonic() < self._leased_until

    def _is_cancel_unseen(self, run_id: UUID) -> bool:
        """Whether a run's end was asked for while a step of it is under way: asked by that step."""
        run = self._runs.get(run_id)
        return run is not None and run.cancel_unseen

    def _is_busy(self) -> bool:
        return any(one.in_flight for one in self._poll_schedules.values()) or any(
            run.busy for run in self._runs.values()
        )

    # -- workers ------------------------------------------------------------------------------------------------------

    def _work_steps(self) -> None:
        """Of the steps that wait take what is furthest, and of these the oldest."""
        while (task := self._step_queue.get()[2]) is not None:
            task()

    def _work_cancels(self) -> None:
        while (task := self._cancel_queue.get()) is not None:
            task()

    def _step_of(self, run_id: UUID) -> Callable[[], None]:
        def step() -> None:
            try:
                wait = self._executor.advance(run_id)
            except Exception as error:  # the log itself is away: nothing can be recorded, so nothing may be done
                self._results.put(partial(self._after_failure, run_id, error))
            else:
                self._results.put(partial(self._after_step, run_id, wait))

        return step

    def _after_failure(self, run_id: UUID, error: Exception) -> None:
        """What a run cannot even record must not keep the others from being carried."""
        if isinstance(errors.classify(error), Transient):
            self._after_step(run_id, _LOG_RETRY_SECONDS)
            return
        logger.error("run %s is set aside for %.0f s: %s", run_id, QUARANTINE_SECONDS, error, exc_info=error)
        self._after_step(run_id, QUARANTINE_SECONDS)

    def _after_step(self, run_id: UUID, wait: float | None) -> None:
        run = self._runs.get(run_id)
        if run is None or run.lost:
            self._runs.pop(run_id, None)
            self._executor.forget(run_id)
            return
        if wait is None:
            self._drop(run_id)
            return
        run.busy = False
        run.due = wait if wait == AWAITS_SCHEDULER else time.monotonic() + wait
        if wait == AWAITS_SCHEDULER:  # a job that is new to us should not wait for the cadence of the old ones
            self._poll_schedule(self._executor.cluster_of(run_id)).poll_soon(time.monotonic())

    def _poll_of(self, cluster: str, asked: list[UUID]) -> Callable[[], None]:
        def ask() -> None:
            try:
                answer = self._executor.monitor.poll(cluster, asked)
            except Exception as error:
                self._results.put(partial(self._after_poll_failure, cluster, asked, errors.classify(error)))
            else:
                self._results.put(partial(self._after_poll, cluster, answer))

        return ask

    def _after_poll(self, cluster: str, answer: dict[UUID, bool]) -> None:
        """``answer`` tells of each run whether it has a next step; runs of which nothing was new are not in it."""
        now = time.monotonic()
        for run_id, goes_on in answer.items():
            if goes_on and run_id in self._runs:
                self._runs[run_id].due = now
        self._poll_schedule(cluster).succeeded(now, changed=bool(answer))

    def _after_poll_failure(self, cluster: str, asked: list[UUID], fault: errors.Fault) -> None:
        """The cluster did not answer: say so when it begins, and let go of its runs when patience is over."""
        seen = self._executor.monitor
        todo = self._poll_schedule(cluster).failed(time.monotonic(), fault, seen.patience_seconds)
        if todo.should_log:
            self._guarded(lambda: seen.record_unreachable(asked, fault, todo.delay, give_up=todo.give_up))
        if todo.give_up:
            for run_id in asked:  # paused; those of which a person has wished for more are taken up again
                if run_id in self._runs and not self._runs[run_id].busy:
                    self._drop(run_id)

    def _retry_cancels(self) -> None:
        with contextlib.suppress(Exception):  # the cluster, or the log, is still away; the log knows what is owed
            self._executor.retry_pending_cancels()
        self._results.put(self._after_cancel_retry)

    def _after_cancel_retry(self) -> None:
        self._retrying_cancels = False
        self._retry_cancels_at = time.monotonic() + CANCEL_RETRY_INTERVAL_SECONDS

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _process_results(self, seconds: float) -> None:
        """Deal with what the workers have done, for at most so long if there is nothing."""
        try:
            self._results.get(timeout=seconds)()
            while True:
                self._results.get_nowait()()
        except queue.Empty:
            pass

    def _release_leases(self) -> None:
        """Let others have our runs now; those whose steps are under way once these are certain to be over."""
        under_way = {run_id for run_id, run in self._runs.items() if run.busy and not run.lost}
        self._leased_until = min(self._leased_until, time.monotonic() + KILL_SECONDS)
        self._log.leases.release_all(self.holder, keep=under_way, seconds=KILL_SECONDS)

    def _drop(self, run_id: UUID) -> None:
        self._runs.pop(run_id, None)
        self._executor.forget(run_id)
        self._guarded(lambda: self._log.leases.release(run_id, self.holder))
        self._synced_at = -math.inf  # was it the one that is waited for?

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do something to the log; while the log is away, nothing."""
        try:
            act()
        except Exception as error:
            self._stop.wait(_patience(error))


def _patience(error: Exception) -> float:
    """Seconds to wait when the log is away; what is no such thing is a defect and raised."""
    if isinstance(errors.classify(error), Transient):
        return _LOG_RETRY_SECONDS
    raise error


def _start_thread(name: str, act: Callable[[], None]) -> None:
    threading.Thread(target=act, name=name, daemon=True).start()
