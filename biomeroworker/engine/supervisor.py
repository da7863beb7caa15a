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
from biomeroworker.engine.maintenance import Chores
from biomeroworker.engine.poll_schedule import Question
from biomeroworker.engine.steps.executor import AWAITS_SCHEDULER, Carrier
from biomeroworker.errors import Transient
from biomeroworker.eventlog.runlog import RunLog

logger = logging.getLogger(__name__)

#: Seconds between two looks for runs that others have accepted, resumed, or want cancelled.
LOOK_INTERVAL = 1.0
#: A lease that is not renewed for so long belongs to a dead supervisor.
LEASE_SECONDS = 60.0
#: Seconds between two looks for cancels that could not be delivered to the cluster.
OWED_INTERVAL = 15.0
#: Steps that are taken at once: exports, transfers and imports share the wire and the cores.
WORKERS = 4
#: Seconds that steps under way have when the supervisor is told to stop; each can be cut off anywhere without harm.
STOP_GRACE = 5.0
#: What takes longer than that is cut off by whoever told it to stop, at the latest so many seconds after the grace:
#: until then nobody else may take its run.
CUT_OFF = 10.0
#: Seconds until a run is looked at again whose step met a defect of ours that could not be recorded.
SET_ASIDE = 300.0
#: Threads for the ends that people ask for.
ENDERS = 2
_TICK = 0.05
_PATIENCE = 2.0


@dataclass
class _Carried:
    """A run in our hands: when its next step is due (`AWAITS_SCHEDULER`: when the scheduler has news)."""

    due: float
    busy: bool = False
    lost: bool = False  #: its lease is somebody else's by now: no further step is taken
    wished: bool = False  #: somebody wants its end: its next step is that
    unheard: bool = False  #: the same, since its step began, which knows nothing of it


class Supervisor:
    """Carries every unfinished run of the log, or only one.

    Parameters
    ----------
    poll_seconds
        The longest wait between two questions to a cluster; by default what is set for each.
    chores
        Are looked after meanwhile.
    """

    def __init__(
        self,
        log: RunLog,
        carrier: Carrier,
        *,
        workers: int = WORKERS,
        poll_seconds: float | None = None,
        chores: Chores | None = None,
    ) -> None:
        self._log, self._carrier, self._poll_seconds = log, carrier, poll_seconds
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        carrier.lease(self.holder, self._holds, self._is_unheard)
        self._workers = workers
        self._stop = threading.Event()
        self._only: UUID | None = None
        self._finished = False
        self._runs: dict[UUID, _Carried] = {}
        self._leased_until = -math.inf
        self._looked = self._renewed = -math.inf
        # what is furthest goes first: else all runs are exported before one is computed, and fill the disk meanwhile
        self._work: queue.PriorityQueue[tuple[float, int, Callable[[], None] | None]] = queue.PriorityQueue()
        self._ends: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._tickets = itertools.count()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._questions: dict[str, Question] = {}
        self._delivering = False
        self._deliver_at = -math.inf
        self._chores = chores

    def stop(self) -> None:
        """Stop soon; safe to call from a signal handler."""
        self._stop.set()

    def carry(self, run_id: UUID) -> None:
        """Carry one run to its end, or until it is paused or `stop` is called; for a person who watches."""
        self._only = run_id
        self.serve()
        if self._chores:
            self._chores.run()

    def serve(self) -> None:
        """Carry all runs until `stop` is called.

        Raises what is a defect of this loop: no fault of the surroundings, and no defect that one run meets.
        """
        for number in range(self._workers):
            _begin(f"worker {number}", self._act)
        for number in range(ENDERS):
            _begin(f"ender {number}", self._act_on_wishes)
        try:
            while not self._stop.is_set() and not self._finished:
                self._guarded(self._look)
                self._hand_out()
                self._hear(_TICK)
        finally:
            end = time.monotonic() + STOP_GRACE
            while self._is_busy() and time.monotonic() < end:
                self._hear(_TICK)
            for _ in range(self._workers):
                self._work.put((-math.inf, next(self._tickets), None))
            for _ in range(ENDERS):
                self._ends.put(None)
            self._guarded(self._give_back)

    # -- what is there to do ------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Renew what is ours, take what is free, hear of wishes to cancel."""
        now = time.monotonic()
        if now - self._looked < LOOK_INTERVAL:
            return
        if now - self._renewed > LEASE_SECONDS / 4:
            kept = self._log.leases.renew(self.holder, LEASE_SECONDS)
            for run_id in [run_id for run_id in self._runs if run_id not in kept]:  # somebody else's by now
                if self._runs[run_id].busy:
                    self._runs[run_id].lost = True
                else:
                    del self._runs[run_id]
            for run_id in kept - self._runs.keys():  # ours though we do not carry it: an answer of the log got lost
                self._log.leases.release(run_id, self.holder)
            self._renewed, self._leased_until = now, now + LEASE_SECONDS
        for run_id in self._log.leases.acquire(self.holder, LEASE_SECONDS, only=self._only):
            self._runs.setdefault(run_id, _Carried(now))
        for run_id in self._log.wishes(self._runs):
            run = self._runs[run_id]
            if not run.busy:
                run.due = min(run.due, now)
            elif not run.wished:
                run.unheard = True
            run.wished = True
        if self._only is not None and not self._runs:
            watched = self._log.run(self._only)
            self._finished = watched.state.is_terminal or watched.paused
        self._looked = now

    def _hand_out(self) -> None:
        """Give the workers what is due, while the leases certainly hold."""
        now = time.monotonic()
        if now >= self._leased_until:
            self._looked = self._renewed = -math.inf  # we have slept through: renew first
            return
        for run_id, run in self._runs.items():
            if not run.busy and run.due <= now:
                run.busy, run.unheard = True, False
                step = self._step_of(run_id)
                if run.wished:
                    self._ends.put(step)
                else:
                    self._work.put((-self._carrier.stage_of(run_id).order, next(self._tickets), step))
        for cluster, awaiting in self._awaiting().items():
            question = self._question_to(cluster)
            if question.is_due(now):
                question.is_asked = True
                _begin(f"question to {cluster or 'the cluster'}", self._ask(cluster, awaiting))
        if now >= self._deliver_at and not self._delivering:
            self._delivering = True
            _begin("cancels that are owed", self._deliver)
        if self._chores:
            self._chores.begin(now)

    def _awaiting(self) -> dict[str, list[UUID]]:
        """The runs whose job a scheduler has, by cluster; those whose inputs still travel to it among them."""
        found: dict[str, list[UUID]] = {}
        for run_id, run in self._runs.items():
            if (run.due == AWAITS_SCHEDULER and not run.busy) or self._carrier.is_fed(run_id):
                found.setdefault(self._carrier.cluster_of(run_id), []).append(run_id)
        return found

    def _question_to(self, cluster: str) -> Question:
        if cluster not in self._questions:
            given = self._poll_seconds
            self._questions[cluster] = Question(self._carrier.poll_seconds(cluster) if given is None else given)
        return self._questions[cluster]

    def _holds(self, run_id: UUID) -> bool:
        """Whether a run is certainly still ours: asked by workers in the middle of a step."""
        run = self._runs.get(run_id)
        return run is not None and not run.lost and time.monotonic() < self._leased_until

    def _is_unheard(self, run_id: UUID) -> bool:
        """Whether a run's end was asked for while a step of it is under way: asked by that step."""
        run = self._runs.get(run_id)
        return run is not None and run.unheard

    def _is_busy(self) -> bool:
        return any(one.is_asked for one in self._questions.values()) or any(run.busy for run in self._runs.values())

    # -- workers ------------------------------------------------------------------------------------------------------

    def _act(self) -> None:
        """Of the steps that wait take what is furthest, and of these the oldest."""
        while (task := self._work.get()[2]) is not None:
            task()

    def _act_on_wishes(self) -> None:
        while (task := self._ends.get()) is not None:
            task()

    def _step_of(self, run_id: UUID) -> Callable[[], None]:
        def step() -> None:
            try:
                wait = self._carrier.advance(run_id)
            except Exception as error:  # the log itself is away: nothing can be recorded, so nothing may be done
                self._done.put(partial(self._after_failure, run_id, error))
            else:
                self._done.put(partial(self._after_step, run_id, wait))

        return step

    def _after_failure(self, run_id: UUID, error: Exception) -> None:
        """What a run cannot even record must not keep the others from being carried."""
        if isinstance(errors.classify(error), Transient):
            self._after_step(run_id, _PATIENCE)
            return
        logger.error("run %s is set aside for %.0f s: %s", run_id, SET_ASIDE, error, exc_info=error)
        self._after_step(run_id, SET_ASIDE)

    def _after_step(self, run_id: UUID, wait: float | None) -> None:
        run = self._runs.get(run_id)
        if run is None or run.lost:
            self._runs.pop(run_id, None)
            return
        if wait is None:
            self._let_go(run_id)
            return
        run.busy = False
        run.due = wait if wait == AWAITS_SCHEDULER else time.monotonic() + wait
        if wait == AWAITS_SCHEDULER:  # a job that is new to us should not wait for the cadence of the old ones
            self._question_to(self._carrier.cluster_of(run_id)).hurry(time.monotonic())

    def _ask(self, cluster: str, asked: list[UUID]) -> Callable[[], None]:
        def ask() -> None:
            try:
                answer = self._carrier.watch.ask(cluster, asked)
            except Exception as error:
                self._done.put(partial(self._after_silence, cluster, asked, errors.classify(error)))
            else:
                self._done.put(partial(self._after_answer, cluster, answer))

        return ask

    def _after_answer(self, cluster: str, answer: dict[UUID, bool]) -> None:
        """``answer`` tells of each run whether it has a next step; runs of which nothing was new are not in it."""
        now = time.monotonic()
        for run_id, goes_on in answer.items():
            if goes_on and run_id in self._runs:
                self._runs[run_id].due = now
        self._question_to(cluster).answered(now, changed=bool(answer))

    def _after_silence(self, cluster: str, asked: list[UUID], silence: errors.Fault) -> None:
        """The cluster did not answer: say so when it begins, and let go of its runs when patience is over."""
        seen = self._carrier.watch
        todo = self._question_to(cluster).unanswered(time.monotonic(), silence, seen.patience_seconds)
        if todo.told:
            self._guarded(lambda: seen.note_silence(asked, silence, todo.delay, give_up=todo.over))
        if todo.over:
            for run_id in asked:  # paused; those of which a person has wished for more are taken up again
                if run_id in self._runs and not self._runs[run_id].busy:
                    self._let_go(run_id)

    def _deliver(self) -> None:
        with contextlib.suppress(Exception):  # the cluster, or the log, is still away; the log knows what is owed
            self._carrier.deliver_cancels()
        self._done.put(self._after_delivery)

    def _after_delivery(self) -> None:
        self._delivering = False
        self._deliver_at = time.monotonic() + OWED_INTERVAL

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _hear(self, seconds: float) -> None:
        """Deal with what the workers have done, for at most so long if there is nothing."""
        try:
            self._done.get(timeout=seconds)()
            while True:
                self._done.get_nowait()()
        except queue.Empty:
            pass

    def _give_back(self) -> None:
        """Let others have our runs now; those whose steps are under way once these are certain to be over."""
        under_way = {run_id for run_id, run in self._runs.items() if run.busy and not run.lost}
        self._leased_until = min(self._leased_until, time.monotonic() + CUT_OFF)
        self._log.leases.release_all(self.holder, keep=under_way, seconds=CUT_OFF)

    def _let_go(self, run_id: UUID) -> None:
        self._runs.pop(run_id, None)
        self._guarded(lambda: self._log.leases.release(run_id, self.holder))
        self._looked = -math.inf  # was it the one that is waited for?

    def _guarded(self, act: Callable[[], object]) -> None:
        """Do something to the log; while the log is away, nothing."""
        try:
            act()
        except Exception as error:
            self._stop.wait(_patience(error))


def _patience(error: Exception) -> float:
    """Seconds to wait when the log is away; what is no such thing is a defect and raised."""
    if isinstance(errors.classify(error), Transient):
        return _PATIENCE
    raise error


def _begin(name: str, act: Callable[[], None]) -> None:
    threading.Thread(target=act, name=name, daemon=True).start()
