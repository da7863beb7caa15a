"""Let a service take up changed settings: it ends its work and executes itself again, in the same process.

Execution in place leaves no part behind that was made of the old settings, and whatever watches the process sees the
same one. It costs no run: leases are released first, and what was under way is taken up as after any restart.
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

#: Seconds between two looks at the files; one `stat` for each.
INTERVAL_SECONDS = 3.0


class Reload:
    """Looks for changed settings in a thread of its own.

    Parameters
    ----------
    stop
        Called once when other valid settings are found: it lets the service end.
    """

    def __init__(self, live: LiveSettings, stop: Callable[[], None]) -> None:
        self._live, self._stop = live, stop
        self.is_due = threading.Event()  #: other settings are to be used from now on
        threading.Thread(target=self._watch, name="settings", daemon=True).start()

    def _watch(self) -> None:
        while not self._has_changed():
            time.sleep(INTERVAL_SECONDS)
        self.is_due.set()
        self._stop()

    def _has_changed(self) -> bool:
        try:
            return self._live.refresh()
        except Exception:  # a defect of ours must not end the watch
            log.exception("looking for changed settings")
            return False


def execute_again() -> None:
    """Replace this program by itself, with the same arguments and process id. Does not return."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  no shell is involved
