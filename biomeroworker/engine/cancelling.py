"""End the jobs of a run whose end was asked for: now if the cluster answers, else as soon as it does.

Nobody who cancels a run should wait for a cluster that is away. What could not be delivered is owed, in the log, and
delivered by whichever supervisor reaches the cluster first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from biomeroworker import errors
from biomeroworker.cluster.site import Cluster
from biomeroworker.errors import Fault
from biomeroworker.log.runlog import RunLog

#: How long the cluster may take to hear of a cancel before it is owed.
ANSWER_SECONDS = 10.0
#: How long a job may take to be gone (its last seconds, a node that clears up) before that is somebody else's to see.
GONE_SECONDS = 30.0


class Canceller:
    """Cancels jobs on one cluster, and remembers in the log what it could not deliver."""

    def __init__(self, log: RunLog, cluster: Cluster) -> None:
        self._log, self._cluster = log, cluster
        self._begun: dict[UUID, float] = {}

    def cancel(self, run_id: UUID, names: Sequence[str], since: datetime) -> str | None:
        """Cancel a run's jobs and see that they are gone.

        Returns
        -------
        What is still to be told of them when the run ends now (nothing, mostly); None when it is too early to end it.
        """
        begun = self._begun.setdefault(run_id, time.monotonic())
        try:
            self._cluster.cancel(names, timeout=ANSWER_SECONDS)
            alive = self._cluster.alive(names, since, timeout=ANSWER_SECONDS)
        except Exception as error:
            silence = errors.classify(error)
            self._log.owed.owe(run_id, names, since)
            word = f"; its job is cancelled when the cluster answers ({silence})"
        else:
            if alive and time.monotonic() - begun < GONE_SECONDS:
                return None
            self._log.owed.owe(run_id, sorted(alive), since)
            word = "; its job was told to end and takes its time" if alive else ""
        self._begun.pop(run_id, None)
        return word

    def give_up(self, run_id: UUID, names: Sequence[str], since: datetime) -> None:
        """End the jobs of attempts that no longer count; owed when the cluster does not answer."""
        try:
            self._cluster.cancel(names, timeout=ANSWER_SECONDS)
        except Fault:
            self._log.owed.owe(run_id, names, since)

    def deliver(self) -> int:
        """Deliver what is owed; how many cancels still are.

        Raises
        ------
        Fault
            The cluster is still away.
        """
        owed = self._log.owed.all()
        if not owed:
            return 0
        names = [one.name for one in owed]
        self._cluster.cancel(names)
        alive = self._cluster.alive(names, min(one.since for one in owed))
        self._log.owed.settle(set(names) - alive)
        return len(alive)
