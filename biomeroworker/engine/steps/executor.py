"""Carry one run from accepted to its end, one step at a time, written for SIGKILL at the next line.

The loss that this module prevents: a run that is done twice, or half, or that nobody remembers. Each step records its
intent, acts, verifies, and records the outcome; called again after a crash, a step looks first, adopts what is there,
and does only what is missing. The state of the run in the log says which step is next; nothing is remembered here that
matters to anyone else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from biomeroworker import errors
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.slurm.submit_errors import SubmissionUncertain
from biomeroworker.cluster.slurm.submit_once import AttemptAbandoned, AttemptClaimed
from biomeroworker.config import Settings
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Source
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.steps import job_monitor
from biomeroworker.engine.steps.cancellation import JobCanceller
from biomeroworker.engine.steps.collect import ResultCollector
from biomeroworker.engine.steps.context import EngineContext, Listener, StepCancelled, null_listener
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.engine.steps.stage_in import InputStager
from biomeroworker.errors import NodeFault
from biomeroworker.eventlog.aggregates.states import AlreadyEnded, NotAllowed, RunState, StaleAttempt
from biomeroworker.eventlog.runlog import RunLog, WorkflowRun
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.workflows.catalogue import Catalogue

#: What `RunExecutor.advance` answers for a run whose next step is the scheduler's.
AWAITS_SCHEDULER = math.inf

#: For how long nothing may be heard of a submission whose answer was lost before its attempt is given up for a new one.
DOUBT_SECONDS = 60.0


class RunExecutor:
    """Takes runs on, step by step.

    Parameters
    ----------
    clusters
        By the name that the configuration gives them; the one without a name is ``""``.
    sources
        By the name that a request gives (``omero``, ``folder``).
    doubt_seconds
        How long a submission of which nothing came is waited for.

    Attributes
    ----------
    watch
        Asks the scheduler about runs that wait for it.
    """

    def __init__(
        self,
        log: RunLog,
        clusters: Mapping[str, Cluster],
        sources: Mapping[str, Source],
        settings: Settings,
        listener: Listener = null_listener,
        doubt_seconds: float = DOUBT_SECONDS,
    ) -> None:
        self.log = log
        self.catalogue = Catalogue(settings)
        self.ctx = EngineContext(log, clusters, sources, settings, listener)
        self._doubt_seconds = doubt_seconds
        self._canceller = JobCanceller(self.ctx)
        self._fault_handler = FaultHandler(self.ctx, self._canceller)
        self._stager = InputStager(self.ctx)
        self._collector = ResultCollector(self.ctx, self._fault_handler)
        self.monitor = job_monitor.JobMonitor(self.ctx, self._fault_handler)
        self._streaming: set[UUID] = set()
        self._last_seen: dict[UUID, tuple[RunState, str]] = {}
        self._steps: dict[RunState, Callable[[UUID, WorkflowRun, RunRequest], float | None]] = {
            RunState.ACCEPTED: self._admit,
            RunState.EXPORTING: self._stager.export,
            RunState.TRANSFERRING: self._stager.transfer,
            RunState.SUBMITTING: self._submit,
            RunState.QUEUED: self._await,
            RunState.RUNNING: self._await,
            RunState.FETCHING: self._fetch,
            RunState.IMPORTING: self._import,
        }

    def lease(
        self,
        holder: str,
        lease_is_valid: Callable[[UUID], bool],
        cancel_pending: Callable[[UUID], bool] = lambda run_id: False,
    ) -> None:
        """Execute runs under the leases of ``holder`` from now on.

        ``lease_is_valid`` tells whether the lease of a run is still valid, ``cancel_pending`` whether a cancel was
        requested since the step of the run started.
        """
        self.ctx.holder, self.ctx.lease_is_valid, self.ctx.cancel_pending = holder, lease_is_valid, cancel_pending

    def is_streaming_inputs(self, run_id: UUID) -> bool:
        """Whether the scheduler has the run's job while its inputs still travel: it has a next step, and is watched."""
        return run_id in self._streaming

    def cluster_of(self, run_id: UUID) -> str:
        """The name of the cluster of a run that was taken a step on here."""
        return self._last_seen[run_id][1] if run_id in self._last_seen else ""

    def poll_seconds(self, cluster: str) -> float:
        """The longest wait between two questions to a cluster; to one that is not in the ini any more, any will do."""
        clusters = self.ctx.settings.clusters
        return clusters[cluster if cluster in clusters else ""].slurm.poll_seconds

    def stage_of(self, run_id: UUID) -> RunState:
        """Where a run was found when it was last taken a step on here."""
        return self._last_seen[run_id][0] if run_id in self._last_seen else RunState.ACCEPTED

    def forget(self, run_id: UUID) -> None:
        """Drop what is remembered of a run that this process no longer executes."""
        self._streaming.discard(run_id)
        self._last_seen.pop(run_id, None)
        self._canceller.forget(run_id)
        self.monitor.invalidate(run_id)

    def advance(self, run_id: UUID) -> float | None:
        """Take a run one step on.

        Returns
        -------
        Seconds until it wants the next step, `AWAITS_SCHEDULER` when `JobMonitor` will tell, or None when there is
        none: it has ended, or is paused.
        """
        self.monitor.invalidate(run_id)
        with self.ctx.lease(run_id):
            run = self.log.run(run_id)
            if run.state not in (RunState.QUEUED, RunState.RUNNING) or run.paused:
                self._streaming.discard(run_id)
            self._last_seen[run_id] = run.state, run.cluster
            if run.state.is_terminal or run.paused:
                self._last_seen.pop(run_id, None)
                return None
            try:
                if run.cancel_requested:
                    return self._cancel(run_id, run)
                request = run.request_model
                return self._steps[run.state](run_id, run, request)
            except StepCancelled:
                return 0
            except (AlreadyEnded, StaleAttempt, LeaseLost):
                # another process was faster: the log has the truth, and it is looked up anew
                return job_monitor.FIRST_INTERVAL_SECONDS
            except Exception as error:
                return self._handle_error(run_id, error)

    def _handle_error(self, run_id: UUID, error: Exception, stage: RunState | None = None) -> float | None:
        with contextlib.suppress(LeaseLost, AlreadyEnded, StaleAttempt):
            return self._fault_handler.handle(run_id, errors.classify(error), stage)
        return job_monitor.FIRST_INTERVAL_SECONDS

    # -- steps --------------------------------------------------------------------------------------------------------

    def _admit(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """At the door: everything that can be known to be wrong is said before anything is moved."""
        self.ctx.report_progress(run_id, run.state, None, "checking the request")
        workflow = self.catalogue.get(request.workflow)
        self.ctx.source(request).check(request)
        place = self.ctx.cluster_context(self.ctx.settings.workflows[request.workflow].cluster)
        plan = ExecutionPlan.resolve(request, workflow, place.name, place.cluster, self.ctx.settings)
        self.log.intend(run_id, RunState.EXPORTING, **plan.detail())
        return 0

    def _submit(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        """At most one job per attempt: the cluster lets only the first submission through, see `cluster.submission`."""
        attempt = run.attempts[run.attempt]
        self.ctx.report_progress(run_id, RunState.SUBMITTING, None, attempt.name)
        place = self.ctx.cluster_context_of(run)
        folder = place.cluster.attempt_folder(run_id, attempt.number)
        spec = ExecutionPlan.from_run(run).job(attempt, folder, place.settings.slurm.array_throttle or 0)
        try:
            job_id = place.cluster.submit(spec)
        except SubmissionUncertain as doubt:
            found = self._resolve_uncertain_submit(run_id, run, place.cluster, doubt)
            if found is None:  # told as a lost attempt, so that a site where this is the rule is found out
                raise NodeFault(
                    "nothing came of handing the job to SLURM", node="", hint="does sbatch print a job id here?"
                ) from doubt
            job_id = found
        self.log.submitted(run_id, attempt.number, job_id)
        return 0 if attempt.unreleased else AWAITS_SCHEDULER

    def _resolve_uncertain_submit(
        self, run_id: UUID, run: WorkflowRun, cluster: Cluster, doubt: SubmissionUncertain
    ) -> int | None:
        """The job of an attempt that may have been submitted; None when the attempt is given up. Raises the doubt."""
        if isinstance(doubt, AttemptAbandoned):
            return None
        found = cluster.find(run.attempts[run.attempt].name, run.created_on)
        if found is not None:
            return found.job_id
        if not isinstance(doubt, AttemptClaimed) or doubt.seconds < self._doubt_seconds:
            raise doubt
        return cluster.abandon(run_id, run.attempt)

    def _await(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float | None:
        """The job is the scheduler's; while it still waits for chunks, one round of them is brought."""
        attempt = run.attempts[run.attempt]
        seen = attempt.observation
        if not attempt.unreleased or (seen is not None and seen.state not in ("PENDING", "RUNNING", "UNKNOWN")):
            self._streaming.discard(run_id)
            return AWAITS_SCHEDULER
        self._streaming.add(run_id)
        try:
            return self._stager.stream_chunks(run_id, run, request)
        except StepCancelled:
            return 0
        except NotAllowed:  # the watch has found that the job is over, or another process was faster
            return job_monitor.FIRST_INTERVAL_SECONDS
        except Exception as error:
            return self._handle_error(run_id, error, RunState.TRANSFERRING)

    def _fetch(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float | None:
        return self._collector.fetch(run_id, run)

    def _import(self, run_id: UUID, run: WorkflowRun, request: RunRequest) -> float:
        inputs = self._stager.manifest(run_id, run, request, self.ctx.workspace(run_id))
        return self._collector.stage_out(run_id, run, request, inputs)

    # -- the end by request -------------------------------------------------------------------------------------------

    def _cancel(self, run_id: UUID, run: WorkflowRun) -> float:
        """Cancel the jobs, see that they are gone, then end the run; one without a job ends at once.

        A run that was importing is brought home, if that can be done now: a cancel leaves no half of the results.
        """
        left = ""
        if run.state is RunState.IMPORTING and run.cancelled_in_import:
            try:
                return self._import(run_id, run, run.request_model)
            except (AlreadyEnded, StaleAttempt, LeaseLost):
                raise
            except Exception as error:
                left = f"; some of its results may be imported: that could not be finished ({errors.classify(error)})"
        names: Sequence[str] = [attempt.name for attempt in run.attempts.values()]
        never_submitted = run.attempt <= 1 and run.state.order < RunState.SUBMITTING.order
        word: str | None = ""
        if names and not never_submitted and run.state is not RunState.IMPORTING:
            self.ctx.report_progress(run_id, run.state, None, "cancelling its job")
            word = self._canceller.cancel(run_id, run, names)
        if word is None:
            return job_monitor.FIRST_INTERVAL_SECONDS
        message = f"cancelled by {run.cancelled_by}{word}{left}"
        self.log.cancelled(run_id, {"stage": run.state.value, "message": message})
        self.ctx.report_progress(run_id, RunState.CANCELLED, None, f"cancelled{word}{left}")
        self._streaming.discard(run_id)
        self.ctx.workspace(run_id).delete()
        return 0

    def retry_pending_cancels(self) -> int:
        """Cancel what could not be cancelled when its run was; how much of it is still owed."""
        return self._canceller.retry_pending()
