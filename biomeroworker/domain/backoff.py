"""Delays between retries: 20 s, doubling to 15 min, with jitter."""

from __future__ import annotations

import random

FIRST_DELAY_SECONDS = 20.0
LONGEST_DELAY_SECONDS = 15 * 60.0


def backoff_delay(
    attempt: int, *, first: float = FIRST_DELAY_SECONDS, longest: float = LONGEST_DELAY_SECONDS, jitter: float = 0.1
) -> float:
    """Seconds to wait before retry number ``attempt`` (from 1).

    ``jitter`` spreads the delays of many runs by ± this fraction, so that they do not all retry at the same moment.
    """
    plain = min(first * 2.0 ** (attempt - 1), longest)
    return plain * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311  not a secret
