"""`SlurmClient`: the façade for shells, OMERO scripts and the command line.

It hands runs in, watches them and asks for their end; it does not carry them (`biomeroworker.engine` does). Making one
needs no network: the log, the cluster and OMERO are each opened when they are first used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID, uuid4

from invoke import Result

from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.registry import Clusters
from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.engine import again, doctor, setup
from biomeroworker.errors import Refused, Transient, classify
from biomeroworker.eventlog.legacy_views import JobAccounting, JobProgress, WorkflowAnalytics, WorkflowProgress
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.eventlog.tracker import WorkflowTracker
from biomeroworker.scripting import dropped
from biomeroworker.scripting.connection import ClusterConnection
from biomeroworker.scripting.conversion import ConversionMethods
from biomeroworker.scripting.data import DataMethods
from biomeroworker.scripting.workflows import WorkflowMethods
from biomeroworker.workflows.catalogue import Catalogue
from biomeroworker.workflows.refresh import Refresher

T = TypeVar("T")

#: Seconds between two looks at a run that is waited for. A look is one indexed query.
WAIT_INTERVAL = 1.0
#: Seconds between tries to hand a run in while the database does not answer.
SUBMIT_PATIENCE = (1.0, 2.0, 4.0, 8.0)


class SlurmClient(ClusterConnection, WorkflowMethods, DataMethods, ConversionMethods):
    """One deployment: its log, its cluster, its workflows.

    It is a fabric ``Connection`` to the cluster too, for code that uses it as one (``client.run("squeue")``).

    Parameters
    ----------
    settings
        As read by `Settings.load`.
    """

    def __init__(self, settings: Settings) -> None:
        # fabric's part is made when it is asked for; it guards its attributes, and ours are set past its guard
        object.__setattr__(self, "settings", settings)

    settings: Settings

    @classmethod
    def from_config(
        cls, configfile: str | Path = "", init_slurm: bool = False, config_only: bool = False
    ) -> SlurmClient:
        """The client that the ini files and the environment describe.

        ``configfile``, or else the file that ``BIOMERO_CONFIG`` names, is read after the usual ones.

        ``init_slurm`` pulls the images that the cluster lacks, as ``biomeroworker init`` does. ``config_only`` is
        accepted for code written for biomero: nothing here connects before it must.
        """
        client = cls(Settings.load(Path(configfile) if configfile else None))
        if init_slurm and not config_only:
            client.setup_slurm()
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.close()

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> RunLog:
        """The event log."""
        return self._part("_log", RunLog, lambda: RunLog.open(self.settings.database_url))

    @property
    def cluster(self) -> Cluster:
        """The cluster of ``[SSH]`` and ``[SLURM]``; where all have names and workflows on them, the first of these."""
        return self.clusters[self.settings.main.cluster]

    @property
    def clusters(self) -> Clusters:
        """All clusters of the configuration, by name; the one without a name is ``""``."""
        return self._part("_clusters", Clusters, lambda: Clusters(self.settings))

    @property
    def catalogue(self) -> Catalogue:
        """The configured workflows."""
        return self._part("_catalogue", Catalogue, lambda: Catalogue(self.settings))

    def __getattr__(self, name: str) -> Any:
        """Settings by the names of old; what biomero had and this has not says what to use instead."""
        if name in dropped.CLIENT:
            raise dropped.missing("SlurmClient", name, dropped.CLIENT)
        if name == "settings":
            raise AttributeError(name)
        if name == "sqlalchemy_url":
            return self.settings.database_url
        for section in (self.settings.main.slurm, self.settings.analytics):
            if name in type(section).model_fields:
                return getattr(section, name)
        return super().__getattr__(name)

    def _part(self, name: str, kind: type[T], make: Callable[[], T]) -> T:
        if name not in self.__dict__:
            object.__setattr__(self, name, make())
        part = self.__dict__[name]
        assert isinstance(part, kind)
        return part

    def close(self) -> None:
        """Give up connections; using the client again opens new ones."""
        super().close()
        for name in ("_log", "_clusters"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()

    # -- the log, under the names of biomero --------------------------------------------------------------------------

    @property
    def workflowTracker(self) -> WorkflowTracker:  # noqa: N802
        """Records runs and tasks of programs that carry them themselves."""
        return self.log.tracker

    @property
    def jobAccounting(self) -> JobAccounting:  # noqa: N802
        """Whose job is which."""
        return self.log.job_accounting

    @property
    def jobProgress(self) -> JobProgress:  # noqa: N802
        """How jobs are."""
        return self.log.job_progress

    @property
    def wfProgress(self) -> WorkflowProgress:  # noqa: N802
        """How runs are."""
        return self.log.workflow_progress

    @property
    def workflowAnalytics(self) -> WorkflowAnalytics:  # noqa: N802
        """What is run how often, and how it ends."""
        return self.log.workflow_analytics

    @property
    def track_workflows(self) -> bool:
        """Runs are always recorded."""
        return True

    def initialize_analytics_system(self, reset_tables: bool = False) -> None:
        """Open the log; ``reset_tables`` makes its read tables again from its events."""
        log = self.log
        if reset_tables:
            log.rebuild()

    def bring_listener_uptodate(self, listener: Any, start: int = 1) -> None:
        """Nothing is to be done: the read tables are written in the transaction of each event."""

    def setup_listeners(self, runner: Any = None, reset_tables: bool = False) -> None:
        """The same; ``reset_tables`` makes the read tables again."""
        self.initialize_analytics_system(reset_tables)

    # -- commands -----------------------------------------------------------------------------------------------------

    def run_commands(
        self,
        cmdlist: Sequence[str],
        env: Mapping[str, str] | None = None,
        sep: str = " && ",
        log_stdout: bool = True,
        **kwargs: Any,
    ) -> Result:
        """Run lines for a shell, joined; what they mean and quote is the caller's affair. Nothing of it is logged."""
        kwargs.setdefault("in_stream", False)
        kwargs.setdefault("hide", True)
        return self.run(sep.join(cmdlist), env=dict(env or {}), **kwargs)

    def run_commands_split_out(self, cmdlist: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The same, and what each line printed."""
        return [self.run_commands([line], env).stdout for line in cmdlist]

    # -- runs ---------------------------------------------------------------------------------------------------------

    def submit(self, request: RunRequest) -> UUID:
        """Accept a run: one committed event that holds all of the request. A supervisor carries it from there.

        Nothing is checked here but the form: what is wrong with a request is found by the supervisor, at the door, and
        ends the run with a message, so that it is seen in the log like any other failure.
        """
        if request.source not in ("omero", "folder"):
            raise Refused(f"unknown source of runs {request.source!r}")
        version = f" {request.version}" if request.version else ""
        run_id = uuid4()  # chosen here: when an answer is lost, asking again accepts the same run, not another one
        for patience in (*SUBMIT_PATIENCE, None):
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
                if patience is None or not isinstance(classify(error), Transient):
                    raise
                time.sleep(patience)
        raise AssertionError("unreachable")

    def wait(
        self,
        run_id: UUID,
        on_progress: Callable[[WorkflowRun], None] | None = None,
        timeout: float | None = None,
    ) -> WorkflowRun:
        """Wait until a run has ended or is paused; returns it.

        ``on_progress`` is called with the run when it is first seen and whenever it has changed. Raises TimeoutError
        after ``timeout`` seconds; the run goes on all the same.
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
            time.sleep(WAIT_INTERVAL)

    def cancel(self, run_id: UUID, by: str) -> None:
        """Ask for a run's end; the supervisor cancels its job and sees that it is gone."""
        self.log.request_cancel(run_id, by)

    def retry(self, run_id: UUID, *, failed: bool = False) -> UUID:
        """Accept the same request again, as a new run; with ``failed`` only on those of its images that failed."""
        return self.submit(again.request(self.log.run(run_id), failed=failed))

    # -- set-up -------------------------------------------------------------------------------------------------------

    def setup_slurm(self, tell: Callable[[str], None] = lambda word: None) -> None:
        """Make the folders on the clusters and pull the images that they lack; raises if any is not there then.

        A workflow that is switched off by a bad descriptor keeps nobody from anything: `prepare` tells of it.
        """
        prepared = self.prepare(tell)
        for name in self.catalogue.problems:
            prepared.problems.pop(name, None)
        prepared.insist()

    def setup_directories(self) -> None:
        """Make the folders on the clusters."""
        for name in self.settings.clusters_in_use:
            setup.make_folders(self.clusters[name])

    def setup_job_scripts(self) -> None:
        """Nothing is to be done: the one job script travels with each run."""

    def update_slurm_scripts(self, generate_jobs: bool = False, env: Mapping[str, str] | None = None) -> Result:
        """The same, with an answer."""
        return Result(exited=0)

    def setup_container_images(self) -> None:
        """Pull the images that the clusters lack, converters' too."""
        self.setup_slurm()

    setup_converters = setup_container_images

    def prepare(self, tell: Callable[[str], None] = lambda word: None) -> setup.Prepared:
        """The same, telling what became of each; dialogs know the new versions then."""
        prepared = setup.set_up(self.settings, self.clusters, self.catalogue, tell)
        Refresher(self.settings, self.clusters).versions()
        return prepared

    def examine(self, *, probe_nodes: bool = False, deadline: int = doctor.PROBE_SECONDS) -> Iterator[doctor.Finding]:
        """What `biomeroworker doctor` says of this deployment, as it is found out."""
        return doctor.examine(self.settings, self.clusters, self.catalogue, probe_nodes=probe_nodes, deadline=deadline)

    def validate(self, validate_slurm_setup: bool = False) -> bool:
        """Raise the fault that keeps us from a cluster, if any; with ``validate_slurm_setup`` set it up as well."""
        for name in self.settings.clusters_in_use:
            self.clusters[name].check()
        if validate_slurm_setup:
            self.setup_slurm()
        return True
