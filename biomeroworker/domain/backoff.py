"""Delays between retries: they double up to a longest delay, and have jitter.

Many callers fail at the same moment, for instance when a server restarts. Jitter prevents that they all retry at the
same moment.
"""

from __future__ import annotations

import random

FIRST_DELAY_SECONDS = 20.0
LONGEST_DELAY_SECONDS = 15 * 60.0


def backoff_delay(
    attempt: int, *, first: float = FIRST_DELAY_SECONDS, longest: float = LONGEST_DELAY_SECONDS, jitter: float = 0.1
) -> float:
    """Seconds to wait before retry number ``attempt`` (from 1); by default 20 s, doubling to 15 min.

    Parameters
    ----------
    first, longest
        Seconds before the first retry, and the limit of the doubling.
    jitter
        Fraction by which a delay may be shorter or longer.
    """
    doublings = min(attempt - 1, 60)  # 2.0**1024 is an error
    plain = min(first * 2.0**doublings, longest)
    return plain * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311  not a secret
