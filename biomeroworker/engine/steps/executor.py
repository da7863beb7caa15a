"""Execute one run from accepted to its end, one step at a time; safe against SIGKILL after every line.

The loss that this module prevents: a run that is executed twice, or half, or forgotten. Each step records its intent,
acts, verifies, and records the outcome. When it is called again after a crash, it first looks at what is there, adopts
that, and does only what is missing. The run's state in the log decides which step is next.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from biomeroworker import errors
from biomeroworker.cluster.cluster import Cluster
from biomeroworker.cluster.slurm.submit_errors import SubmissionUncertain
from biomeroworker.cluster.slurm.submit_once import AttemptAbandoned, AttemptClaimed
from biomeroworker.config import Settings
from biomeroworker.domain.source import Source
from biomeroworker.engine.planning.plan import ExecutionPlan
from biomeroworker.engine.steps.cancellation import JobCanceller
from biomeroworker.engine.steps.collect import ResultCollector
from biomeroworker.engine.steps.context import EngineContext, Listener, RunContext, null_listener
from biomeroworker.engine.steps.fault_handler import FaultHandler
from biomeroworker.engine.steps.guards import StepCancelled
from biomeroworker.engine.steps.input_manifest import InputManifestStore
from biomeroworker.engine.steps.job_monitor import JobMonitor
from biomeroworker.engine.steps.leased_run import AWAIT_POLL, FINISHED, LeasedRun, StepResult, next_step
from biomeroworker.engine.steps.stage_in import InputStager
from biomeroworker.engine.timing import Timing
from biomeroworker.errors import NodeFault
from biomeroworker.eventlog.aggregates.states import AlreadyEnded, NotAllowed, RunState, StaleAttempt
from biomeroworker.eventlog.runlog import RunLog
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.workflows.catalogue import Catalogue


class RunExecutor:
    """Advances runs, step by step.

    Parameters
    ----------
    clusters
        By their name in the configuration; the cluster without a name is ``""``.
    sources
        By the name that a request gives (``omero``, ``folder``).

    Attributes
    ----------
    monitor
        Polls the scheduler for the runs that wait for it.
    """

    def __init__(
        self,
        log: RunLog,
        clusters: Mapping[str, Cluster],
        sources: Mapping[str, Source],
        settings: Settings,
        listener: Listener = null_listener,
        timing: Timing | None = None,
    ) -> None:
        self.log = log
        self.catalogue = Catalogue(settings)
        self.ctx = EngineContext(log, clusters, sources, settings, listener, timing)
        self._canceller = JobCanceller(self.ctx)
        self._fault_handler = FaultHandler(self.ctx, self._canceller)
        manifests = InputManifestStore()
        self._stager = InputStager(self.ctx, manifests)
        self._collector = ResultCollector(self.ctx, self._fault_handler, manifests)
        self.monitor = JobMonitor(self.ctx, self._fault_handler)
        self._steps: dict[RunState, Callable[[RunContext], StepResult]] = {
            RunState.ACCEPTED: self._admit,
            RunState.EXPORTING: self._stager.export,
            RunState.TRANSFERRING: self._stager.transfer,
            RunState.SUBMITTING: self._submit,
            RunState.QUEUED: self._await,
            RunState.RUNNING: self._await,
            RunState.FETCHING: self._collector.fetch,
            RunState.IMPORTING: self._collector.stage_out,
        }

    def poll_seconds(self, cluster: str) -> float:
        """The longest interval between two polls of a cluster, also for one that is not in the configuration."""
        clusters = self.ctx.settings.clusters
        return clusters[cluster if cluster in clusters else ""].slurm.poll_seconds

    def advance(self, leased: LeasedRun) -> StepResult:
        """Take the next step of a run."""
        leased.polled = None
        with leased.lease.fence():
            context = RunContext(self.log.run(leased.id), leased, self.ctx)
            return replace(self._advance(context), stage=context.run.state, cluster=context.run.cluster)

    def _advance(self, context: RunContext) -> StepResult:
        run = context.run
        if run.state.is_terminal or run.paused:
            return FINISHED
        try:
            if run.cancel_requested:
                return self._cancel(context)
            _ = context.request  # no step runs for a request that this version cannot read
            return self._steps[run.state](context)
        except StepCancelled:
            return next_step()
        except (AlreadyEnded, StaleAttempt, LeaseLost):
            return self._look_again()
        except Exception as error:
            return self._handle_error(context, error)

    def _handle_error(self, context: RunContext, error: Exception, stage: RunState | None = None) -> StepResult:
        with contextlib.suppress(LeaseLost, AlreadyEnded, StaleAttempt):
            return self._fault_handler.handle(context.leased, errors.classify(error), stage)
        return self._look_again()

    def _look_again(self) -> StepResult:
        """Another process changed the run first: read it again soon."""
        return next_step(self.ctx.timing.first_poll_seconds)

    # -- steps --------------------------------------------------------------------------------------------------------

    def _admit(self, context: RunContext) -> StepResult:
        """Check everything that can be checked before data is moved, and record the plan."""
        request = context.request
        context.guard.check()
        context.report_progress("checking the request")
        workflow = self.catalogue.get(request.workflow)
        context.source.check(request)
        place = self.ctx.cluster_context(self.ctx.settings.workflows[request.workflow].cluster)
        plan = ExecutionPlan.resolve(request, workflow, place.name, place.cluster, self.ctx.settings)
        plan = plan.model_copy(update={"folder": place.cluster.run_folder(context.id)})
        self.log.intend(context.id, RunState.EXPORTING, **plan.detail())
        return next_step()

    def _submit(self, context: RunContext) -> StepResult:
        """Submit the attempt's one job: the cluster accepts only the first submission, see `slurm.submit_once`."""
        attempt = context.attempt
        context.guard.check()
        context.report_progress(attempt.name)
        spec = context.plan.job(attempt, context.attempt_folder, context.place.settings.slurm.array_throttle or 0)
        try:
            job_id = context.cluster.submit(spec)
        except SubmissionUncertain as doubt:
            found = self._resolve_uncertain_submit(context, doubt)
            if found is None:  # counts as a lost attempt, so that a site where this always happens is noticed
                raise NodeFault(
                    "sbatch returned no job ID, and SLURM has no job of this name",
                    node="",
                    hint="check that `sbatch --parsable` prints the job ID",
                ) from doubt
            job_id = found
        self.log.submitted(context.id, attempt.number, job_id)
        return next_step(streaming=True) if attempt.unreleased else AWAIT_POLL

    def _resolve_uncertain_submit(self, context: RunContext, doubt: SubmissionUncertain) -> int | None:
        """The job of an attempt that may have been submitted; None when the attempt is abandoned.

        Raises ``doubt`` while the job may still appear.
        """
        if isinstance(doubt, AttemptAbandoned):
            return None
        found = context.cluster.find(context.attempt.name, context.run.created_on)
        if found is not None:
            return found.job_id
        if not isinstance(doubt, AttemptClaimed) or doubt.seconds < self.ctx.timing.doubt_seconds:
            raise doubt
        return context.cluster.abandon(context.id, context.attempt.number)

    def _await(self, context: RunContext) -> StepResult:
        """Wait for the scheduler; while tasks of the job wait for their chunks, send the next chunks."""
        attempt = context.attempt
        seen = attempt.observation
        if not attempt.unreleased or (seen is not None and seen.state.is_terminal):
            return AWAIT_POLL
        if not context.leased.last.streaming:  # the supervisor then polls the job during the transfer
            return next_step(streaming=True)
        try:
            self._stager.stream_chunks(context)
        except StepCancelled:
            return next_step()
        except NotAllowed:  # the monitor has found that the job ended, or another process changed the run first
            return self._look_again()
        except Exception as error:
            result = self._handle_error(context, error, RunState.TRANSFERRING)
            return replace(result, streaming=result.delay > 0)  # no delay: a new attempt has replaced this one
        return next_step(streaming=True)

    # -- cancel -------------------------------------------------------------------------------------------------------

    def _cancel(self, context: RunContext) -> StepResult:
        """Cancel the jobs, check that they are gone, then end the run; a run without a job ends at once.

        An import is finished first, if that is possible now: a cancel leaves no half of the results.
        """
        run = context.run
        unfinished = ""
        if run.state is RunState.IMPORTING and run.cancelled_in_import:
            try:
                return self._collector.stage_out(context)
            except (AlreadyEnded, StaleAttempt, LeaseLost):
                raise
            except Exception as error:
                unfinished = (
                    f"; some of its results may be imported: the import could not be finished"
                    f" ({errors.classify(error)})"
                )
        names: Sequence[str] = [attempt.name for attempt in run.attempts.values()]
        never_submitted = run.attempt <= 1 and run.state.order < RunState.SUBMITTING.order
        remark: str | None = ""
        if names and not never_submitted and run.state is not RunState.IMPORTING:
            context.guard.check()
            context.report_progress("cancelling its job")
            remark = self._canceller.cancel(context, names)
        if remark is None:
            return self._look_again()
        message = f"cancelled by {run.cancelled_by}{remark}{unfinished}"
        self.log.cancelled(context.id, {"stage": run.state.value, "message": message})
        context.report_progress(f"cancelled{remark}{unfinished}", stage=RunState.CANCELLED)
        context.workspace.delete()
        return next_step()

    def retry_pending_cancels(self) -> int:
        """Cancel the jobs that could not be cancelled when their runs ended; return how many are left."""
        return self._canceller.retry_pending()
