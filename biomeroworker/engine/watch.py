"""How often to ask the scheduler: soon after something happened, rarely when nothing does. Pure."""

from __future__ import annotations

#: Seconds between the first questions about a job; short jobs should not wait, long ones should not be nagged about.
FIRST_INTERVAL = 2.0
GROWTH = 1.6


def next_interval(previous: float | None, *, changed: bool, longest: float) -> float:
    """Seconds to the next question.

    Parameters
    ----------
    previous
        The interval before this answer; None before the first question.
    changed
        Whether the answer told something new.
    longest
        The site's ``poll_seconds``: no interval is longer.
    """
    if previous is None:
        return min(FIRST_INTERVAL, longest)
    return min(previous if changed else previous * GROWTH, longest)
