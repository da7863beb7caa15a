"""Periodic tasks beside the runs: deliver notifications, delete old folders, refresh descriptors.

A task disturbs neither runs nor other tasks: each runs in a thread of its own. Failed tasks are retried with backoff
and logged.
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

#: Seconds between two looks into the outbox; an empty outbox costs one indexed query.
OUTBOX_INTERVAL_SECONDS = 5.0
#: Seconds between two cleanups, and between two rounds of one cleanup that is not finished.
CLEANUP_INTERVAL_SECONDS, NEXT_ROUND_INTERVAL_SECONDS = 3600.0, 30.0
PURGE_INTERVAL_SECONDS = 86400.0


@dataclass
class PeriodicTask:
    """A task; ``act`` does it and returns the seconds until the next time."""

    name: str
    act: Callable[[], float]
    due: float
    always: bool = False  #: run it also when it is not due, in `MaintenanceScheduler.run_due`
    failures: int = 0
    busy: bool = False

    def is_due(self, now: float) -> bool:
        """Whether to start it at ``now`` (of ``time.monotonic()``); not while it runs."""
        return self.due <= now and not self.busy


class MaintenanceScheduler:
    """Starts the periodic tasks; used by one thread.

    Raises ConfigError when the settings name something that does not exist.
    """

    def __init__(
        self, log: RunLog, clusters: Mapping[str, Cluster], settings: Settings, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._dispatcher = Dispatcher(log, settings, environ)
        self._cleaner = RetentionCleaner(log, clusters, settings)
        now = time.monotonic()
        self._tasks = [
            PeriodicTask("delivering notifications", self._deliver, now, always=True),
            PeriodicTask("removing folders on the cluster", self._clean_remote, now + OUTBOX_INTERVAL_SECONDS),
            PeriodicTask("removing folders on this machine", self._clean_local, now + OUTBOX_INTERVAL_SECONDS),
            PeriodicTask(
                "refreshing descriptors", Refresher(settings, clusters).refresh, now + OUTBOX_INTERVAL_SECONDS
            ),
            PeriodicTask("purging the outbox", self._purge_outbox, now + CLEANUP_INTERVAL_SECONDS),
        ]

    def start_due(self, now: float) -> None:
        """Start the tasks that are due at ``now``, each in a thread of its own."""
        for task in self._tasks:
            if task.is_due(now):
                task.busy = True
                threading.Thread(target=self._run_task, args=(task,), name=task.name, daemon=True).start()

    def run_due(self) -> None:
        """Run the due tasks in this thread, and always the delivery: a run may just have ended. Never raises."""
        for task in self._tasks:
            if task.always or task.is_due(time.monotonic()):
                self._run_task(task)

    def _run_task(self, task: PeriodicTask) -> None:
        try:
            delay = task.act()
        except Exception as error:
            task.failures = min(task.failures + 1, 20)
            delay = backoff.backoff_delay(task.failures)
            if task.failures == 1:
                logger.warning("%s failed: %s; next try in %.0f s", task.name, error, delay)
        else:
            task.failures = 0
        task.due = time.monotonic() + delay
        task.busy = False

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
