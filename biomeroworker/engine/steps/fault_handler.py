"""Record a fault of a run and do what follows from its class; `retry_policy` decides what that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from biomeroworker import errors
from biomeroworker.domain import ranges
from biomeroworker.engine.steps import retry_policy
from biomeroworker.engine.steps.cancellation import JobCanceller
from biomeroworker.engine.steps.context import EngineContext, RunContext
from biomeroworker.engine.steps.leased_run import FINISHED, LeasedRun, StepResult, next_step
from biomeroworker.errors import Blocked, Fault, NodeFault
from biomeroworker.eventlog.aggregates.states import RunState

#: After how many attempts in a row that were lost to their nodes the fault is taken for another one than the nodes'.
MAX_ATTEMPTS_IN_A_ROW = 4


class FaultHandler:
    """Handles the faults of runs."""

    def __init__(self, ctx: EngineContext, canceller: JobCanceller) -> None:
        self._ctx, self._log, self._canceller = ctx, ctx.log, canceller

    def handle(self, leased: LeasedRun, fault: Fault, stage: RunState | None = None) -> StepResult:
        """Record a fault and do what follows from its class.

        The run is read from the log: the step may have recorded events before it failed.

        Parameters
        ----------
        stage
            Where the fault happened, if that is not the run's state.
        """
        context = RunContext(self._log.run(leased.id), leased, self._ctx)
        run = context.run
        if run.state.is_terminal:
            return FINISHED
        if run.cancel_requested:  # the next step is the cancel
            return next_step()
        stage = stage or run.state
        if isinstance(fault, NodeFault):
            lost = retry_policy.consecutive_losses(run)
            if lost < MAX_ATTEMPTS_IN_A_ROW - 1:
                self._record(context, fault, None)
                self._start_new_attempt(context, [fault.node], context.attempt.tasks, forgive=not lost)
                return next_step()
            fault = Blocked(f"{lost + 1} attempts in a row: {fault}", hint=fault.hint, detail=fault.detail)
        earlier = run.consecutive_faults(stage)
        now = datetime.now(UTC)
        decision = retry_policy.decide(
            fault,
            failures=len(earlier) + 1,
            since=earlier[0].when if earlier else now,
            now=now,
            budget=timedelta(hours=self._ctx.settings.worker.retry_hours),
            before_admission=run.state is RunState.ACCEPTED,
            timing=self._ctx.timing,
        )
        match decision:
            case retry_policy.Retry(delay):
                self.retry_later(context, fault, delay, stage)
                return next_step(delay)
            case retry_policy.Pause():
                self.pause(context, fault, stage)
                return FINISHED
            case retry_policy.End():
                if run.state in (RunState.QUEUED, RunState.RUNNING):  # its job waits for inputs that cannot be had
                    self._canceller.cancel_abandoned_attempts(context, [context.attempt.name])
                self._log.fail(run.id, vars(errors.report(fault, stage.value, str(run.id), outcome="ended")))
                context.report_progress(str(fault), stage=RunState.FAILED)
                return FINISHED

    def retry_later(self, context: RunContext, fault: Fault, delay: float, stage: RunState | None = None) -> None:
        """Record a fault whose step, or query, is repeated after ``delay`` seconds."""
        self._record(context, fault, datetime.now(UTC) + timedelta(seconds=delay), stage)
        context.report_progress(f"{fault}; next try in {delay:.0f} s")

    def pause(self, context: RunContext, fault: Fault, stage: RunState | None = None) -> None:
        """Record a fault and pause the run until a person resumes it."""
        run = context.run
        self._record(context, fault, None, stage)
        report = errors.report(fault, (stage or run.state).value, str(run.id), outcome="paused")
        self._log.pause(run.id, str(report), run.state)
        context.report_progress(f"paused: {fault}")

    def handle_lost_tasks(self, context: RunContext, faults: Mapping[int, NodeFault]) -> StepResult:
        """Start a further attempt for the tasks of an array that were lost to their nodes.

        ``context`` has the run with the outcome of its other tasks.
        """
        run = context.run
        example = next(iter(faults.values()))
        count = f"{len(faults)} of {len(context.attempt.tasks)} tasks ({ranges.format_ranges(faults)}): "
        nodes = sorted({fault.node for fault in faults.values()})
        fault = NodeFault(f"{count}{example}", node=example.node, hint=example.hint, detail=example.detail)
        lost = retry_policy.consecutive_losses(run)
        if run.state.is_terminal or run.cancel_requested or lost >= MAX_ATTEMPTS_IN_A_ROW - 1:
            return self.handle(context.leased, fault)
        self._record(context, fault, None)
        self._start_new_attempt(context, nodes, faults, forgive=not lost)
        return next_step()

    def _record(
        self, context: RunContext, fault: Fault, retry_at: datetime | None, stage: RunState | None = None
    ) -> None:
        self._log.fault(
            context.id,
            stage or context.run.state,
            attempt=context.run.attempt,
            kind=retry_policy.kind(fault),
            message=str(fault),
            detail=fault.detail,
            hint=fault.hint,
            retry_at=retry_at,
        )

    def _start_new_attempt(
        self, context: RunContext, nodes: Iterable[str], tasks: Iterable[int], *, forgive: bool
    ) -> None:
        """Start the next attempt on other nodes.

        ``forgive`` allows the nodes that earlier attempts excluded: an attempt in between was not lost to its node.
        """
        run, before = context.run, context.attempt
        exclude = {node for node in nodes if node not in ("", "unknown")}
        exclude.update(() if forgive else before.excluded_nodes)
        self._canceller.cancel_abandoned_attempts(context, [before.name])
        name = context.cluster.attempt_name(run.id, run.attempt + 1)
        self._log.begin_attempt(run.id, run.attempt + 1, name, excluded_nodes=sorted(exclude), tasks=tasks)
