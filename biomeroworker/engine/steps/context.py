"""What every step of a run has at hand: the log, the clusters, the sources, and who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import ClusterSettings, Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Source
from biomeroworker.engine.planning.disk_space import SpaceGuard
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.errors import Conflict, RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store.fence import LeaseLost, held

#: Told the run, its stage, a fraction from 0 to 1 (None: not known) and a word: what a person watches.
Listener = Callable[[UUID, RunState, float | None, str], None]


def null_listener(run: UUID, stage: RunState, fraction: float | None, word: str) -> None:
    """The listener of a run that nobody watches."""


class StepCancelled(Conflict):
    """Somebody has asked for the run's end: this step leads nowhere."""


@dataclass(frozen=True)
class ClusterContext:
    """One cluster with its settings and what guards its space."""

    name: str
    cluster: Cluster
    settings: ClusterSettings
    guard: SpaceGuard


class EngineContext:
    """Shared by all steps of all runs; safe to share between threads.

    Attributes
    ----------
    holder
        Under whose leases runs are carried: what happens to a run is recorded only while its lease holds. Empty: under
        none, for a log that nobody else writes to.
    lease_is_valid
        Whether the lease of a run is certainly valid, as far as this process knows; checked during a step.
    cancel_pending
        Whether a cancel of a run was requested since its step started.
    """

    def __init__(
        self,
        log: RunLog,
        clusters: Mapping[str, Cluster],
        sources: Mapping[str, Source],
        settings: Settings,
        listener: Listener,
    ) -> None:
        self.log, self.clusters, self.sources, self.settings, self.listener = log, clusters, sources, settings, listener
        self.holder = ""
        self.lease_is_valid: Callable[[UUID], bool] = lambda run_id: True
        self.cancel_pending: Callable[[UUID], bool] = lambda run_id: False
        self._cluster_contexts: dict[str, ClusterContext] = {}
        self._lock = threading.Lock()

    def cluster_context(self, name: str) -> ClusterContext:
        """A cluster by its name; raises what keeps us from knowing it."""
        cluster = self.clusters[name]
        with self._lock:
            known = self._cluster_contexts.get(name)
            if known is None or known.cluster is not cluster:
                settings = self.settings.clusters[name]
                known = ClusterContext(name, cluster, settings, SpaceGuard(cluster, settings))
                self._cluster_contexts[name] = known
            return known

    def cluster_context_of(self, run: WorkflowRun) -> ClusterContext:
        """Where a run is carried out, as it was settled at the door."""
        return self.cluster_context(run.cluster)

    def cluster_of(self, run: WorkflowRun) -> Cluster:
        """The cluster of a run."""
        return self.cluster_context_of(run).cluster

    def workspace(self, run_id: UUID) -> Workspace:
        """The run's folder on this machine."""
        return Workspace(self.settings.worker.work_folder, run_id)

    def source(self, request: RunRequest) -> Source:
        """Where the run comes from."""
        try:
            return self.sources[request.source]
        except KeyError:
            raise RequestRejected(f"this worker does not serve runs from {request.source!r}") from None

    @contextmanager
    def lease(self, run_id: UUID) -> Iterator[None]:
        """What this thread records meanwhile of the run is recorded only while its lease holds."""
        with held(run_id, self.holder):
            yield

    def report_progress(self, run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        """Report progress to the listener, unless the step has to end here: see `check_interrupted`."""
        self.check_interrupted(run_id, stage)
        self.listener(run_id, stage, fraction, word)

    def check_interrupted(self, run_id: UUID, stage: RunState) -> None:
        """Check that a step may go on.

        Raises
        ------
        LeaseLost
            The lease of the run may have expired.
        StepCancelled
            A cancel is pending; except while importing, which must finish.
        """
        if not stage.is_terminal and not self.lease_is_valid(run_id):
            raise LeaseLost(f"run {run_id} may be carried by somebody else by now")
        if not stage.is_terminal and stage is not RunState.IMPORTING and self.cancel_pending(run_id):
            raise StepCancelled(f"a cancel of run {run_id} was requested")

    def transfer_progress(self, run_id: UUID, stage: RunState) -> Callable[[int, int], None]:
        """For a transfer: tells of its bytes."""
        return lambda done, total: self.report_progress(
            run_id, stage, done / total if total else None, f"{done / 1e6:.1f} MB"
        )
