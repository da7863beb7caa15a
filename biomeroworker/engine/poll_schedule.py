"""Adaptive polling interval and failure backoff for one cluster. Pure.

While a cluster does not answer, its jobs continue: it is polled again, with growing delays. The first failure is
recorded, and when the cluster has not answered for too long, the runs that wait for it are paused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from biomeroworker.engine.timing import Timing
from biomeroworker.errors import Fault, Transient

#: An interval without news is followed by one that is longer by this factor.
INTERVAL_GROWTH = 2.0


def next_interval(previous: float | None, *, changed: bool, first: float, longest: float) -> float:
    """Seconds until the next poll.

    Parameters
    ----------
    previous
        The interval before this poll; None before the first poll.
    changed
        Whether the answer contained news.
    first, longest
        The first interval, for short jobs, and the site's ``poll_seconds``, which no interval exceeds.
    """
    if previous is None:
        return min(first, longest)
    return min(previous if changed else previous * INTERVAL_GROWTH, longest)


@dataclass(frozen=True)
class PollFailure:
    """What follows a poll that failed."""

    delay: float  #: seconds until the next poll
    should_log: bool
    give_up: bool  #: pause the runs that wait


class PollSchedule:
    """The polls of one cluster; times are those of ``time.monotonic()``."""

    def __init__(self, longest: float, timing: Timing) -> None:
        self._longest, self._timing = longest, timing
        self._poll_at = math.inf
        self._interval: float | None = None
        self._failures = 0
        self._failing_since = 0.0
        self.in_flight = False

    def is_due(self, now: float) -> bool:
        """Whether to poll now. Call it only while there are jobs to poll."""
        if self.in_flight:
            return False
        if self._poll_at == math.inf:
            self._poll_at = now + self._next(changed=True)
        return now >= self._poll_at

    def poll_soon(self, now: float) -> None:
        """Shorten the interval again: a job is new."""
        self._interval = None
        self._poll_at = min(self._poll_at, now + min(self._timing.first_poll_seconds, self._longest))

    def succeeded(self, now: float, *, changed: bool) -> None:
        """The cluster has answered; ``changed``: with news."""
        self.in_flight, self._failures = False, 0
        self._poll_at = now + self._next(changed=changed)

    def failed(self, now: float, fault: Fault, patience: float) -> PollFailure:
        """The cluster did not answer, because of ``fault``; it may do so for ``patience`` seconds."""
        self.in_flight = False
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        passes = isinstance(fault, Transient)
        delay = self._timing.retry_delay(self._failures) if passes else self._timing.longest_retry_seconds
        self._poll_at = now + delay
        give_up = not passes or now - self._failing_since > patience
        should_log = give_up or self._failures == 1
        if give_up:
            self._failures = 0
        return PollFailure(delay, should_log, give_up)

    def _next(self, *, changed: bool) -> float:
        first = self._timing.first_poll_seconds
        self._interval = next_interval(self._interval, changed=changed, first=first, longest=self._longest)
        return self._interval
