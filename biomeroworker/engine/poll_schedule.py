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
class PollFailure:
    """What to do about an answer that did not come: ask again after ``delay``; ``told``: say so; ``over``: give up."""

    delay: float
    should_log: bool
    give_up: bool


class PollSchedule:
    """The questions to one cluster; times are those of ``time.monotonic()``."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._poll_at = math.inf
        self._interval: float | None = None
        self._failures = 0
        self._failing_since = 0.0
        self.in_flight = False

    def is_due(self, now: float) -> bool:
        """Whether to ask now; to be called while there is something to ask about."""
        if self.in_flight:
            return False
        if self._poll_at == math.inf:
            self._poll_at = now + self._next(changed=True)
        return now >= self._poll_at

    def poll_soon(self, now: float) -> None:
        """A job is new to us: it should not wait for the cadence of the old ones."""
        self._interval = None
        self._poll_at = min(self._poll_at, now + job_monitor.next_interval(None, changed=True, longest=self._longest))

    def succeeded(self, now: float, *, changed: bool) -> None:
        """The cluster has answered; whether anything was new."""
        self.in_flight, self._failures = False, 0
        self._poll_at = now + self._next(changed=changed)

    def failed(self, now: float, fault: Fault, patience: float) -> PollFailure:
        """The cluster did not answer, for this reason."""
        self.in_flight = False
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        passes = isinstance(fault, Transient)
        delay = backoff.backoff_delay(self._failures) if passes else backoff.LONGEST_DELAY_SECONDS
        self._poll_at = now + delay
        over = not passes or now - self._failing_since > patience
        told = over or self._failures == 1
        if over:
            self._failures = 0
        return PollFailure(delay, told, over)

    def _next(self, *, changed: bool) -> float:
        self._interval = job_monitor.next_interval(self._interval, changed=changed, longest=self._longest)
        return self._interval
