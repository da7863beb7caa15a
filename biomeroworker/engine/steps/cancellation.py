"""End the jobs of a run whose end was asked for: now if the cluster answers, else as soon as it does.

Nobody who cancels a run should wait for a cluster that is away. What could not be delivered is owed, in the log, and
delivered by whichever supervisor reaches the cluster first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from biomeroworker import errors
from biomeroworker.engine.steps.context import EngineContext
from biomeroworker.errors import Fault
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.store.pending_cancels import PendingCancel

#: How long the cluster may take to hear of a cancel before it is owed.
ANSWER_SECONDS = 10.0
#: How long a job may take to be gone (its last seconds, a node that clears up) before that is somebody else's to see.
GONE_SECONDS = 30.0


class JobCanceller:
    """Cancels jobs on the clusters of their runs, and remembers in the log what it could not deliver."""

    def __init__(self, ctx: EngineContext) -> None:
        self._ctx, self._log = ctx, ctx.log
        self._started: dict[UUID, float] = {}

    def cancel(self, run_id: UUID, run: WorkflowRun, names: Sequence[str]) -> str | None:
        """Cancel a run's jobs and see that they are gone.

        Returns
        -------
        What is still to be told of them when the run ends now (nothing, mostly); None when it is too early to end it.
        """
        begun, since = self._started.setdefault(run_id, time.monotonic()), run.created_on
        try:
            cluster = self._ctx.cluster_of(run)
            cluster.cancel(names, timeout=ANSWER_SECONDS)
            alive = cluster.active_jobs(names, since, timeout=ANSWER_SECONDS)
        except Exception as error:
            silence = errors.classify(error)
            self._log.pending_cancels.add(run_id, names, since)
            word = f"; its job is cancelled when the cluster answers ({silence})"
        else:
            if alive and time.monotonic() - begun < GONE_SECONDS:
                return None
            self._log.pending_cancels.add(run_id, sorted(alive), since)
            word = "; its job was told to end and takes its time" if alive else ""
        self._started.pop(run_id, None)
        return word

    def forget(self, run_id: UUID) -> None:
        """Drop when the cancel of a run was started: this process no longer executes the run."""
        self._started.pop(run_id, None)

    def cancel_abandoned_attempts(self, run_id: UUID, run: WorkflowRun, names: Sequence[str]) -> None:
        """End the jobs of attempts that no longer count; owed when the cluster does not answer."""
        try:
            self._ctx.cluster_of(run).cancel(names, timeout=ANSWER_SECONDS)
        except Fault:
            self._log.pending_cancels.add(run_id, names, run.created_on)

    def retry_pending(self) -> int:
        """Deliver what is owed, each to its own cluster; how many cancels still are.

        Raises
        ------
        Fault
            A cluster is still away; the others have been told.
        """
        owed: dict[str, list[PendingCancel]] = {}
        left = 0
        silences: list[Exception] = []
        for one in self._log.pending_cancels.all():
            try:
                owed.setdefault(self._log.run(one.run_id).cluster, []).append(one)
            except Exception as error:  # of this run nothing can be read; that is no trouble of the others
                silences.append(error)
        for place, due in owed.items():
            try:
                left += self._retry_on_cluster(place, due)
            except Exception as error:  # raised when the others have had theirs
                silences.append(error)
        if silences:
            raise errors.classify(silences[0])
        return left

    def _retry_on_cluster(self, name: str, due: Sequence[PendingCancel]) -> int:
        cluster = self._ctx.cluster_context(name).cluster
        names = [one.name for one in due]
        cluster.cancel(names)
        alive = cluster.active_jobs(names, min(one.since for one in due))
        self._log.pending_cancels.remove(set(names) - alive)
        return len(alive)
