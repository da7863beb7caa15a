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
from biomeroworker.engine.retention import FOLDERS, Housekeeper
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.notifications.dispatcher import Courier
from biomeroworker.workflows.refresh import Refresher

logger = logging.getLogger(__name__)

#: Seconds between two looks into the outbox: one indexed question when it is empty.
LOOK = 5.0
#: Seconds between two sweeps, and between two rounds of one that has more to do.
SWEEP, SWEEP_ON = 3600.0, 30.0
TIDY = 86400.0


@dataclass
class _Chore:
    """Something to do: ``act`` answers in how many seconds again."""

    name: str
    act: Callable[[], float]
    due: float
    always: bool = False  #: whenever `Chores.run` is called
    failures: int = 0
    busy: bool = False

    def is_due(self, now: float) -> bool:
        """Whether it is to be done at ``now`` (of ``time.monotonic()``), and nobody is at it."""
        return self.due <= now and not self.busy


class Chores:
    """Looked at by one thread; cheap when there is nothing to do.

    Raises ConfigError when what the settings call for is not there.
    """

    def __init__(
        self, log: RunLog, clusters: Mapping[str, Cluster], settings: Settings, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._courier = Courier(log, settings, environ)
        self._keeper = Housekeeper(log, clusters, settings)
        begun = time.monotonic()
        self._chores = [
            _Chore("delivering notices", self._deliver, begun, always=True),
            _Chore("removing folders on the cluster", self._sweep_cluster, begun + LOOK),
            _Chore("removing folders on this machine", self._sweep_here, begun + LOOK),
            _Chore("refreshing descriptors", Refresher(settings, clusters).refresh, begun + LOOK),
            _Chore("tidying the outbox", self._tidy, begun + SWEEP),
        ]

    def begin(self, now: float) -> None:
        """Begin what is due at ``now``, each in a thread of its own. Asks nothing and nobody when nothing is."""
        for chore in self._chores:
            if chore.is_due(now):
                chore.busy = True
                threading.Thread(target=self._do, args=(chore,), name=chore.name, daemon=True).start()

    def run(self) -> None:
        """Do what is due here and now, and deliver what waits in any case: a run may just have ended. Never raises."""
        for chore in self._chores:
            if chore.always or chore.is_due(time.monotonic()):
                self._do(chore)

    def _do(self, chore: _Chore) -> None:
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
        self._courier.deliver()
        return LOOK

    def _sweep_cluster(self) -> float:
        return SWEEP_ON if self._keeper.sweep_cluster() >= FOLDERS else SWEEP

    def _sweep_here(self) -> float:
        self._keeper.sweep_here()
        return SWEEP

    def _tidy(self) -> float:
        self._courier.tidy()
        return TIDY
