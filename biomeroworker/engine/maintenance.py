"""What has to be done now and then beside carrying runs: deliver notices, remove what has served, keep lists fresh.

Nothing here may disturb a run: a chore that fails is tried again later and later, and is said in the program's own log.
Nor another chore: notices do not wait for folders that take minutes to remove.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import Settings
from biomeroworker.domain import backoff
from biomeroworker.engine.retention import FOLDERS_PER_ROUND, RetentionCleaner
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.notifications.dispatcher import Dispatcher
from biomeroworker.workflows.refresh import Refresher

logger = logging.getLogger(__name__)

#: Seconds between two looks into the outbox: one indexed question when it is empty.
OUTBOX_INTERVAL_SECONDS = 5.0
#: Seconds between two sweeps, and between two rounds of one that has more to do.
CLEANUP_INTERVAL_SECONDS, NEXT_ROUND_INTERVAL_SECONDS = 3600.0, 30.0
PURGE_INTERVAL_SECONDS = 86400.0


@dataclass
class PeriodicTask:
    """Something to do: ``act`` answers in how many seconds again."""

    name: str
    act: Callable[[], float]
    due: float
    always: bool = False  #: whenever `MaintenanceScheduler.run_due` is called
    failures: int = 0
    busy: bool = False

    def is_due(self, now: float) -> bool:
        """Whether it is to be done at ``now`` (of ``time.monotonic()``), and nobody is at it."""
        return self.due <= now and not self.busy


class MaintenanceScheduler:
    """Looked at by one thread; cheap when there is nothing to do.

    Raises ConfigError when what the settings call for is not there.
    """

    def __init__(
        self, log: RunLog, clusters: Mapping[str, Cluster], settings: Settings, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._dispatcher = Dispatcher(log, settings, environ)
        self._cleaner = RetentionCleaner(log, clusters, settings)
        begun = time.monotonic()
        self._tasks = [
            PeriodicTask("delivering notices", self._deliver, begun, always=True),
            PeriodicTask("removing folders on the cluster", self._clean_remote, begun + OUTBOX_INTERVAL_SECONDS),
            PeriodicTask("removing folders on this machine", self._clean_local, begun + OUTBOX_INTERVAL_SECONDS),
            PeriodicTask(
                "refreshing descriptors", Refresher(settings, clusters).refresh, begun + OUTBOX_INTERVAL_SECONDS
            ),
            PeriodicTask("tidying the outbox", self._purge_outbox, begun + CLEANUP_INTERVAL_SECONDS),
        ]

    def start_due(self, now: float) -> None:
        """Begin what is due at ``now``, each in a thread of its own. Asks nothing and nobody when nothing is."""
        for chore in self._tasks:
            if chore.is_due(now):
                chore.busy = True
                threading.Thread(target=self._run_task, args=(chore,), name=chore.name, daemon=True).start()

    def run_due(self) -> None:
        """Do what is due here and now, and deliver what waits in any case: a run may just have ended. Never raises."""
        for chore in self._tasks:
            if chore.always or chore.is_due(time.monotonic()):
                self._run_task(chore)

    def _run_task(self, chore: PeriodicTask) -> None:
        try:
            again = chore.act()
        except Exception as error:
            chore.failures = min(chore.failures + 1, 20)
            again = backoff.backoff_delay(chore.failures)
            if chore.failures == 1:
                logger.warning("%s: %s; again in %.0f s", chore.name, error, again)
        else:
            chore.failures = 0
        chore.due = time.monotonic() + again
        chore.busy = False

    def _deliver(self) -> float:
        self._dispatcher.deliver()
        return OUTBOX_INTERVAL_SECONDS

    def _clean_remote(self) -> float:
        return (
            NEXT_ROUND_INTERVAL_SECONDS
            if self._cleaner.clean_remote() >= FOLDERS_PER_ROUND
            else CLEANUP_INTERVAL_SECONDS
        )

    def _clean_local(self) -> float:
        self._cleaner.clean_local()
        return CLEANUP_INTERVAL_SECONDS

    def _purge_outbox(self) -> float:
        self._dispatcher.purge()
        return PURGE_INTERVAL_SECONDS
