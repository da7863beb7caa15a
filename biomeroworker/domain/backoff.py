"""Delays between retries: 20 s, doubling to 15 min, with jitter."""

from __future__ import annotations

import random

FIRST_DELAY_SECONDS = 20.0
LONGEST_DELAY_SECONDS = 15 * 60.0


def backoff_delay(attempt: int, *, jitter: float = 0.1) -> float:
    """Seconds to wait before retry number ``attempt`` (from 1), spread by ± ``jitter``: runs must not march in step."""
    plain = min(FIRST_DELAY_SECONDS * 2.0 ** (attempt - 1), LONGEST_DELAY_SECONDS)
    return plain * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311  not a secret
