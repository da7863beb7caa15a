"""What every step of a run has at hand: the log, the clusters, the sources, and who listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Source
from biomeroworker.engine.planning.disk_space import SpaceGuard
from biomeroworker.engine.results.workspace import Workspace
from biomeroworker.errors import Overtaken, Refused
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store.fence import LeaseLost, held

#: Told the run, its stage, a fraction from 0 to 1 (None: not known) and a word: what a person watches.
Listener = Callable[[UUID, RunState, float | None, str], None]


def nobody_watches(run: UUID, stage: RunState, fraction: float | None, word: str) -> None:
    """The listener of a run that nobody watches."""


class ToEnd(Overtaken):
    """Somebody has asked for the run's end: this step leads nowhere."""


@dataclass(frozen=True)
class Place:
    """One cluster with its settings and what guards its space."""

    name: str
    cluster: Cluster
    settings: Settings
    guard: SpaceGuard


class Surroundings:
    """Shared by all steps of all runs; safe to share between threads.

    Attributes
    ----------
    holder
        Under whose leases runs are carried: what happens to a run is recorded only while its lease holds. Empty: under
        none, for a log that nobody else writes to.
    holds
        Whether the lease of a run certainly holds, as far as this process knows; asked while a step takes its time.
    unheard
        Whether somebody has asked for the end of a run since its step began.
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
        self.holds: Callable[[UUID], bool] = lambda run_id: True
        self.unheard: Callable[[UUID], bool] = lambda run_id: False
        self._places: dict[str, Place] = {}
        self._lock = threading.Lock()

    def place(self, name: str) -> Place:
        """A cluster by its name; raises what keeps us from knowing it."""
        cluster = self.clusters[name]
        with self._lock:
            known = self._places.get(name)
            if known is None or known.cluster is not cluster:
                known = Place(name, cluster, self.settings.on(name), SpaceGuard(cluster, self.settings.on(name)))
                self._places[name] = known
            return known

    def place_of(self, run: WorkflowRun) -> Place:
        """Where a run is carried out, as it was settled at the door."""
        return self.place(cluster_name(run))

    def cluster_of(self, run: WorkflowRun) -> Cluster:
        """The cluster of a run."""
        return self.place_of(run).cluster

    def space(self, run_id: UUID) -> Workspace:
        """The run's folder on this machine."""
        return Workspace(self.settings.worker.work_folder, run_id)

    def source(self, request: RunRequest) -> Source:
        """Where the run comes from."""
        try:
            return self.sources[request.source]
        except KeyError:
            raise Refused(f"this worker does not serve runs from {request.source!r}") from None

    @contextmanager
    def lease(self, run_id: UUID) -> Iterator[None]:
        """What this thread records meanwhile of the run is recorded only while its lease holds."""
        with held(run_id, self.holder):
            yield

    def tell(self, run_id: UUID, stage: RunState, fraction: float | None, word: str) -> None:
        """Tell the listener; a step that has lost its lease meanwhile ends here, before it does more.

        So does one whose run is to end, but for the import: it leaves no halves.
        """
        if not stage.is_terminal and not self.holds(run_id):
            raise LeaseLost(f"run {run_id} may be carried by somebody else by now")
        if not stage.is_terminal and stage is not RunState.IMPORTING and self.unheard(run_id):
            raise ToEnd(f"the end of run {run_id} was asked for")
        self.listener(run_id, stage, fraction, word)

    def bytes_told(self, run_id: UUID, stage: RunState) -> Callable[[int, int], None]:
        """For a transfer: tells of its bytes."""
        return lambda done, total: self.tell(run_id, stage, done / total if total else None, f"{done / 1e6:.1f} MB")


def cluster_name(run: WorkflowRun) -> str:
    """The name of a run's cluster; ``""``, the one without a name, also while that is not settled."""
    return str(run.intent(RunState.EXPORTING).get("cluster") or "")
