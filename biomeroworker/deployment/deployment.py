"""`Deployment`: the parts of one deployment, for the command line, scripts and interactive use.

It accepts runs, waits for them and cancels them; a `Supervisor` executes them. The constructor needs no network: the
database, the clusters and OMERO are opened at their first use.
"""

from __future__ import annotations

import itertools
import logging
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
from biomeroworker.deployment import job_log, rerun
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
from biomeroworker.eventlog.detached import waiting_runs
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.refresh import Refresher

logger = logging.getLogger(__name__)

#: Seconds between two queries of `Deployment.wait`. A query is one indexed statement.
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
        """A supervisor that executes the runs of this deployment.

        Parameters
        ----------
        listener
            Called with the run's id, its stage, the fraction that is done (or None) and a text, for each progress.
        """
        for run in waiting_runs(self.log):
            logger.warning("detached run of biomero, not executed here; start it again in the dialog: %s", run)
        executor = RunExecutor(self.log, self.clusters, self.sources, self.settings, listener)
        maintenance = MaintenanceScheduler(self.log, self.clusters, self.settings)
        return Supervisor(self.log, executor, maintenance=maintenance)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run: one committed event with the whole request. A supervisor executes the run.

        Only the format of the request is checked here. The supervisor checks its content before admission; an error
        there ends the run with a message, like any other failure.

        Returns
        -------
        the run's id

        Raises
        ------
        RequestRejected
            The request names an unknown source, or contains a secret.
        """
        if request.source not in self.sources:
            raise RequestRejected(f"unknown source of runs {request.source!r}")
        version = f" {request.version}" if request.version else ""
        run_id = uuid4()  # chosen here, so that a retry after a lost answer of the database accepts the same run
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
        """Wait until a run has ended or is paused, and return it.

        Parameters
        ----------
        on_progress
            Called with the run at the first query and after each change.
        timeout
            Seconds; None waits without limit.

        Raises
        ------
        TimeoutError
            The run has not ended in time. It continues.
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
                raise TimeoutError(f"run {run_id} is still {run.state.value} after {timeout:.0f} s; it continues")
            time.sleep(WAIT_INTERVAL_SECONDS)

    def cancel(self, run_id: UUID, by: str) -> None:
        """Request cancellation of a run. The supervisor cancels its job and verifies that the job has ended."""
        self.log.request_cancel(run_id, by)

    def retry(self, run_id: UUID, *, failed: bool = False) -> UUID:
        """Accept the request of an ended run as a new run; with ``failed`` only for the inputs without a result."""
        return self.submit(rerun.build_rerun_request(self.log.run(run_id), failed=failed))

    def report(self, run_id: UUID) -> bytes:
        """The report of a run, as an HTML page: the one that was attached at its end, or what is known now."""
        from biomeroworker.deployment.run_report import page_of  # imports the image libraries, which takes a second

        return page_of(self.log.run(run_id), self.log, self.clusters, self.sources, self.settings)

    def job_log(self, run: WorkflowRun) -> str:
        """The log of an ended run as text: its facts, and the outputs of its job, read from the cluster."""
        return job_log.job_log(self.clusters, run)

    # -- the clusters -------------------------------------------------------------------------------------------------

    def provision(self, report: Callable[[str], None] = lambda word: None) -> Prepared:
        """Create the folders on the clusters and pull missing images; return the results.

        Afterwards the dialogs of scripts list the new versions.
        """
        prepared = set_up(self.settings, self.clusters, self.catalogue, report)
        Refresher(self.settings, self.clusters).versions()
        return prepared

    def doctor(
        self, *, probe_nodes: bool = False, deadline: int = examination.PROBE_SECONDS
    ) -> Iterator[examination.Finding]:
        """Check this deployment; yield each finding as soon as it is known.

        Parameters
        ----------
        probe_nodes
            Also run a small test job on each node of the partitions in use.
        deadline
            Seconds to wait for the test jobs.
        """
        return examination.examine(
            self.settings, self.clusters, self.catalogue, probe_nodes=probe_nodes, deadline=deadline
        )
