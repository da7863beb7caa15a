"""When a cluster is asked about its jobs, all of them at once; and what is done when it does not answer. Pure.

Its jobs go on meanwhile: it is asked again, later and later. That is said once, and when patience is over the runs that
wait for it are paused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from biomeroworker.domain import backoff
from biomeroworker.engine.steps import job_monitor
from biomeroworker.errors import Fault, Transient


@dataclass(frozen=True)
class Silence:
    """What to do about an answer that did not come: ask again after ``delay``; ``told``: say so; ``over``: give up."""

    delay: float
    told: bool
    over: bool


class Question:
    """The questions to one cluster; times are those of ``time.monotonic()``."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._ask_at = math.inf
        self._interval: float | None = None
        self._silences = 0
        self._silent_since = 0.0
        self.is_asked = False

    def is_due(self, now: float) -> bool:
        """Whether to ask now; to be called while there is something to ask about."""
        if self.is_asked:
            return False
        if self._ask_at == math.inf:
            self._ask_at = now + self._next(changed=True)
        return now >= self._ask_at

    def hurry(self, now: float) -> None:
        """A job is new to us: it should not wait for the cadence of the old ones."""
        self._interval = None
        self._ask_at = min(self._ask_at, now + job_monitor.next_interval(None, changed=True, longest=self._longest))

    def answered(self, now: float, *, changed: bool) -> None:
        """The cluster has answered; whether anything was new."""
        self.is_asked, self._silences = False, 0
        self._ask_at = now + self._next(changed=changed)

    def unanswered(self, now: float, silence: Fault, patience: float) -> Silence:
        """The cluster did not answer, for this reason."""
        self.is_asked = False
        self._silences += 1
        if self._silences == 1:
            self._silent_since = now
        passes = isinstance(silence, Transient)
        delay = backoff.backoff_delay(self._silences) if passes else backoff.LONGEST_DELAY_SECONDS
        self._ask_at = now + delay
        over = not passes or now - self._silent_since > patience
        told = over or self._silences == 1
        if over:
            self._silences = 0
        return Silence(delay, told, over)

    def _next(self, *, changed: bool) -> float:
        self._interval = job_monitor.next_interval(self._interval, changed=changed, longest=self._longest)
        return self._interval
