"""What a step works with: the parts that all runs share, and what belongs to its own run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import ClusterSettings, Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Source
from biomeroworker.engine.planning.disk_space import SpaceGuard
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.engine.steps.guards import StepGuard
from biomeroworker.engine.steps.leased_run import LeasedRun
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.records import Attempt
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

#: Called with the run, its stage, the fraction from 0 to 1 that is done (None: unknown) and a text for people.
Listener = Callable[[UUID, RunState, float | None, str], None]


def null_listener(run: UUID, stage: RunState, fraction: float | None, text: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class ClusterContext:
    """One cluster with its settings and the check of its free space."""

    name: str
    cluster: Cluster
    settings: ClusterSettings
    space: SpaceGuard


class EngineContext:
    """What all steps of all runs share; safe to use from several threads."""

    def __init__(
        self,
        log: RunLog,
        clusters: Mapping[str, Cluster],
        sources: Mapping[str, Source],
        settings: Settings,
        listener: Listener = null_listener,
        timing: Timing | None = None,
    ) -> None:
        self.log, self.clusters, self.sources, self.settings, self.listener = log, clusters, sources, settings, listener
        self.timing = timing or Timing()
        self._cluster_contexts: dict[str, ClusterContext] = {}
        self._lock = threading.Lock()

    def cluster_context(self, name: str) -> ClusterContext:
        """A cluster by its name; raises Blocked for a name that is not in the configuration."""
        cluster = self.clusters[name]
        with self._lock:
            known = self._cluster_contexts.get(name)
            if known is None or known.cluster is not cluster:
                settings = self.settings.clusters[name]
                known = ClusterContext(name, cluster, settings, SpaceGuard(cluster, settings))
                self._cluster_contexts[name] = known
            return known

    def source(self, request: RunRequest) -> Source:
        """The source that a request names; raises RequestRejected when this worker does not serve it."""
        try:
            return self.sources[request.source]
        except KeyError:
            raise RequestRejected(f"this worker does not serve runs from {request.source!r}") from None


@dataclass(frozen=True)
class RunContext:
    """One run during one step.

    Request, plan and cluster are looked up at their first use, and may raise then: cancelling a run needs neither a
    valid request nor a cluster that is still in the configuration.
    """

    run: WorkflowRun
    leased: LeasedRun
    engine: EngineContext

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self.leased.id

    @property
    def attempt(self) -> Attempt:
        """The run's current attempt."""
        return self.run.attempts[self.run.attempt]

    @cached_property
    def guard(self) -> StepGuard:
        """Checked before each change outside the log."""
        return StepGuard(self.leased.lease, self.leased.cancel, must_finish=self.run.state is RunState.IMPORTING)

    @cached_property
    def request(self) -> RunRequest:
        """The validated request."""
        return self.run.request_model

    @cached_property
    def plan(self) -> ExecutionPlan:
        """The plan of an admitted run."""
        return ExecutionPlan.from_run(self.run)

    @cached_property
    def place(self) -> ClusterContext:
        """The run's cluster with its settings."""
        return self.engine.cluster_context(self.run.cluster)

    @property
    def cluster(self) -> Cluster:
        """The run's cluster."""
        return self.place.cluster

    @cached_property
    def workspace(self) -> Workspace:
        """The run's folder on this machine."""
        return Workspace(self.engine.settings.worker.work_folder, self.id)

    @property
    def source(self) -> Source:
        """Where the run's inputs come from and its results go."""
        return self.engine.source(self.request)

    @property
    def run_folder(self) -> str:
        """The run's folder on its cluster, absolute."""
        return self.cluster.run_folder(self.id)

    @property
    def attempt_folder(self) -> str:
        """The current attempt's folder on its cluster, absolute."""
        return self.cluster.attempt_folder(self.id, self.run.attempt)

    def report_progress(self, text: str, fraction: float | None = None, *, stage: RunState | None = None) -> None:
        """Report progress to the listener; at the run's state, unless ``stage`` is given."""
        self.engine.listener(self.id, stage or self.run.state, fraction, text)

    def transfer_progress(self, stage: RunState | None = None) -> Callable[[int, int], None]:
        """For a transfer, which calls it often: report its bytes; end it when the step must stop."""

        def transferred(done: int, total: int) -> None:
            self.guard.check()
            self.report_progress(f"{done / 1e6:.1f} MB", done / total if total else None, stage=stage)

        return transferred
