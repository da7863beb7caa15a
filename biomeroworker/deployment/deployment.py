"""`Deployment`: the parts that the configuration names, put together, for the command line, scripts and shells.

It accepts runs, follows them and requests their end; a `Supervisor` carries them. Making one needs no network: the
log, the clusters and OMERO are each opened at their first use.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.registry import Clusters
from biomeroworker.config import Settings
from biomeroworker.deployment import rerun
from biomeroworker.deployment.provision import Prepared, set_up
from biomeroworker.deployment.sources import Sources
from biomeroworker.doctor import examination
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.maintenance import MaintenanceScheduler
from biomeroworker.engine.steps.context import Listener
from biomeroworker.engine.steps.executor import RunExecutor
from biomeroworker.engine.supervisor import Supervisor
from biomeroworker.errors import RequestRejected, Transient, classify
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.refresh import Refresher

#: Seconds between two queries for a run that is waited for. A query is one indexed statement.
WAIT_INTERVAL_SECONDS = 1.0
#: Attempts to accept a run while the database does not answer, and seconds before the second one, doubling.
SUBMIT_TRIES, SUBMIT_RETRY_SECONDS = 5, 1.0


class Deployment:
    """One deployment: its event log, its clusters, its workflows and its sources of runs.

    Parameters
    ----------
    settings
        As read by `Settings.load`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def load(cls, config: Path | str | None = None) -> Self:
        """Make the deployment that the ini files and the environment describe.

        Parameters
        ----------
        config
            A file that is read after the standard ones; see `Settings.load`.
        """
        return cls(Settings.load(config))

    def __repr__(self) -> str:
        host = self.settings.default_cluster.ssh.host
        return f"<{type(self).__name__} {host!r}, {len(self.settings.workflows)} workflows>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections. Using the deployment again opens new ones."""
        for name in ("log", "clusters"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()

    # -- parts --------------------------------------------------------------------------------------------------------

    @cached_property
    def log(self) -> RunLog:
        """The event log. Its first use makes or migrates the tables of the database."""
        return RunLog.open(self.settings.database_url)

    @cached_property
    def clusters(self) -> Clusters:
        """All clusters of the configuration by name; the cluster without a name is ``""``."""
        return Clusters(self.settings)

    @property
    def cluster(self) -> Cluster:
        """The cluster of ``[SSH]`` and ``[SLURM]``; if all clusters have names, the first that a workflow uses."""
        return self.clusters[self.settings.default_cluster.name]

    @cached_property
    def catalogue(self) -> Catalogue:
        """The configured workflows."""
        return Catalogue(self.settings)

    @cached_property
    def sources(self) -> Sources:
        """The sources of runs that this worker can serve."""
        return Sources()

    def supervisor(self, listener: Listener) -> Supervisor:
        """A supervisor that carries this deployment's runs.

        Parameters
        ----------
        listener
            Called with the run's id, its stage, the fraction that is done (or None) and a text, for each progress.
        """
        executor = RunExecutor(self.log, self.clusters, self.sources, self.settings, listener)
        maintenance = MaintenanceScheduler(self.log, self.clusters, self.settings)
        return Supervisor(self.log, executor, maintenance=maintenance)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run: one committed event that holds the whole request. A supervisor carries it from there.

        Only the form is checked here. Other mistakes in a request are found by the supervisor before admission and end
        the run with a message, so that they are visible in the log like any other failure.

        Returns
        -------
        the run's id

        Raises
        ------
        Refused
            The request names an unknown source, or holds a secret.
        """
        if request.source not in self.sources:
            raise RequestRejected(f"unknown source of runs {request.source!r}")
        version = f" {request.version}" if request.version else ""
        run_id = uuid4()  # chosen here: if the database's answer is lost, a retry accepts the same run, not another one
        for attempt in itertools.count(1):
            try:
                return self.log.accept(
                    request.model_dump(mode="json"),
                    name=request.workflow,
                    description=f"{request.workflow}{version}",
                    user=request.user,
                    group=request.group,
                    run_id=run_id,
                )
            except Exception as error:
                if attempt == SUBMIT_TRIES or not isinstance(classify(error), Transient):
                    raise
                time.sleep(backoff_delay(attempt, first=SUBMIT_RETRY_SECONDS))
        raise AssertionError("unreachable")

    def wait(
        self,
        run_id: UUID,
        on_progress: Callable[[WorkflowRun], None] | None = None,
        timeout: float | None = None,
    ) -> WorkflowRun:
        """Wait until a run has ended or is paused; returns it.

        Parameters
        ----------
        on_progress
            Called with the run at the first query and after each change.
        timeout
            Seconds; None waits without limit.

        Raises
        ------
        TimeoutError
            The run has not ended in time. It goes on all the same.
        """
        end = None if timeout is None else time.monotonic() + timeout
        seen = None
        while True:
            run = self.log.run(run_id)
            if on_progress and run.version != seen:
                seen = run.version
                on_progress(run)
            if run.state.is_terminal or run.paused:
                return run
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"run {run_id} is still {run.state.value} after {timeout:.0f} s; it goes on")
            time.sleep(WAIT_INTERVAL_SECONDS)

    def cancel(self, run_id: UUID, by: str) -> None:
        """Request the end of a run; the supervisor cancels its job and verifies that the job is gone."""
        self.log.request_cancel(run_id, by)

    def retry(self, run_id: UUID, *, failed: bool = False) -> UUID:
        """Accept the same request again, as a new run; with ``failed`` only for those of its images that failed."""
        return self.submit(rerun.build_rerun_request(self.log.run(run_id), failed=failed))

    # -- the clusters -------------------------------------------------------------------------------------------------

    def provision(self, report: Callable[[str], None] = lambda word: None) -> Prepared:
        """Make the folders on the clusters and pull the images that are missing; returns the result for each.

        Afterwards dialogs show the new versions.
        """
        prepared = set_up(self.settings, self.clusters, self.catalogue, report)
        Refresher(self.settings, self.clusters).versions()
        return prepared

    def doctor(
        self, *, probe_nodes: bool = False, deadline: int = examination.PROBE_SECONDS
    ) -> Iterator[examination.Finding]:
        """Examine this deployment; yields each finding as soon as it is known.

        Parameters
        ----------
        probe_nodes
            Also run a small job on each node of the partitions in use.
        deadline
            Seconds to wait for these jobs.
        """
        return examination.examine(
            self.settings, self.clusters, self.catalogue, probe_nodes=probe_nodes, deadline=deadline
        )
