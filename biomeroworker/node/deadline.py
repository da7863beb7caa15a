"""Run actions in parallel until a deadline. Used when the node stops, because a silent server answers no call."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger(__name__)


def run_until(deadline: float, actions: Iterable[Callable[[], Any]]) -> None:
    """Run each action in a thread of its own; return when all have ended, or at ``deadline`` (`time.monotonic`).

    An action that raises is logged. One that has not ended in time continues in its thread, which does not keep the
    interpreter from exiting.
    """
    threads = [threading.Thread(target=_run, args=(action,), name="stop", daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _run(action: Callable[[], Any]) -> None:
    try:
        action()
    except Exception:
        log.exception("stopping")
