"""Cancel the jobs of runs: now if the cluster answers, else as soon as it does.

A cancelled run ends without waiting for a cluster that cannot be reached. A cancel that was not delivered is recorded
in the log, and the first supervisor that reaches the cluster delivers it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from biomeroworker import errors
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.errors import Fault
from biomeroworker.eventlog.store.pending_cancels import PendingCancel


class JobCanceller:
    """Cancels jobs on the clusters of their runs, and records in the log which cancels were not delivered."""

    def __init__(self, ctx: EngineContext) -> None:
        self._ctx, self._log = ctx, ctx.log

    def cancel(self, context: RunContext, names: Sequence[str]) -> str | None:
        """Cancel a run's jobs and check that they are gone.

        Returns
        -------
        None when a job is still active and the run should wait for it; else a remark on the jobs for the run's
        report, empty when they are gone.
        """
        timing, since = self._ctx.timing, context.run.created_on
        if context.leased.cancel_started is None:
            context.leased.cancel_started = time.monotonic()
        try:
            cluster = context.cluster
            cluster.cancel(names, timeout=timing.cancel_answer_seconds)
            active = cluster.active_jobs(names, since, timeout=timing.cancel_answer_seconds)
        except Exception as error:
            fault = errors.classify(error)
            self._log.pending_cancels.add(context.id, names, since)
            return f"; its job will be cancelled when the cluster answers ({fault})"
        if active and time.monotonic() - context.leased.cancel_started < timing.job_gone_seconds:
            return None
        self._log.pending_cancels.add(context.id, sorted(active), since)
        return "; its job was cancelled but is still ending" if active else ""

    def cancel_abandoned_attempts(self, context: RunContext, names: Sequence[str]) -> None:
        """Cancel the jobs of attempts that are replaced or whose run ends; later, when the cluster does not answer."""
        try:
            context.cluster.cancel(names, timeout=self._ctx.timing.cancel_answer_seconds)
        except Fault:
            self._log.pending_cancels.add(context.id, names, context.run.created_on)

    def retry_pending(self) -> int:
        """Deliver the recorded cancels, each to its own cluster; return how many are left.

        Raises
        ------
        Fault
            A cluster does not answer, or a run cannot be read; all others were served.
        """
        due_by_cluster: dict[str, list[PendingCancel]] = {}
        left = 0
        failures: list[Exception] = []
        for one in self._log.pending_cancels.all():
            try:
                due_by_cluster.setdefault(self._log.run(one.run_id).cluster, []).append(one)
            except Exception as error:  # this run cannot be read; the others can
                failures.append(error)
        for name, due in due_by_cluster.items():
            try:
                left += self._retry_on_cluster(name, due)
            except Exception as error:  # raised after the other clusters
                failures.append(error)
        if failures:
            raise errors.classify(failures[0])
        return left

    def _retry_on_cluster(self, name: str, due: Sequence[PendingCancel]) -> int:
        cluster = self._ctx.cluster_context(name).cluster
        names = [one.name for one in due]
        cluster.cancel(names)
        active = cluster.active_jobs(names, min(one.since for one in due))
        self._log.pending_cancels.remove(set(names) - active)
        return len(active)
