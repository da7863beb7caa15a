"""Restart a service with changed settings: it stops its work and executes its program again in the same process.

No object with old settings remains, and the process ID does not change. No run is lost: leases are released first, and
steps that were interrupted continue as after any restart.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from biomeroworker.config.live import LiveSettings

log = logging.getLogger(__name__)

#: Seconds between two checks, each with one `stat` per file.
INTERVAL_SECONDS = 3.0


class Reload:
    """Checks for changed settings in its own thread.

    Parameters
    ----------
    stop
        Called once when the settings have changed and are valid; it must stop the service.
    """

    def __init__(self, live: LiveSettings, stop: Callable[[], None]) -> None:
        self._live, self._stop = live, stop
        self.is_due = threading.Event()  #: set when the service must restart
        threading.Thread(target=self._watch, name="settings", daemon=True).start()

    def _watch(self) -> None:
        while not self._has_changed():
            time.sleep(INTERVAL_SECONDS)
        self.is_due.set()
        self._stop()

    def _has_changed(self) -> bool:
        try:
            return self._live.refresh()
        except Exception:  # a defect must not end the checks
            log.exception("checking for changed settings")
            return False


def execute_again() -> None:
    """Execute this program again, with the same arguments and process ID. Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is involved
