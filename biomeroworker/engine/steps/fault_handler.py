"""A run meets a fault: record it and do what its class asks for (`retry_policy` decides, here it is done)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

from biomeroworker import errors
from biomeroworker.domain import ranges
from biomeroworker.engine.steps import retry_policy
from biomeroworker.engine.steps.cancellation import JobCanceller
from biomeroworker.engine.steps.context import EngineContext
from biomeroworker.errors import Blocked, Fault, NodeFault
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState

#: How many attempts in a row may be lost to their nodes before it is no longer the nodes.
MAX_ATTEMPTS_IN_A_ROW = 4


class FaultHandler:
    """What becomes of a run that meets a fault."""

    def __init__(self, ctx: EngineContext, canceller: JobCanceller) -> None:
        self._ctx, self._log, self._canceller = ctx, ctx.log, canceller

    def handle(self, run_id: UUID, fault: Fault, stage: RunState | None = None) -> float | None:
        """Record a fault and do what its class asks for.

        Parameters
        ----------
        stage
            Where it was met, if that is not the run's state.

        Returns
        -------
        Seconds until the run wants its next step; None when it has ended or waits for a person.
        """
        run = self._log.run(run_id)
        if run.state.is_terminal:
            return None
        if run.cancel_requested:  # nobody waits for this any more
            return 0
        stage = stage or run.state
        if isinstance(fault, NodeFault):
            lost = retry_policy.consecutive_losses(run)
            if lost < MAX_ATTEMPTS_IN_A_ROW - 1:
                self.record(run_id, run, fault, None)
                self._start_new_attempt(run_id, run, [fault.node], run.attempts[run.attempt].tasks, forgive=not lost)
                return 0
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
        )
        match decision:
            case retry_policy.Retry(delay):
                self.record(run_id, run, fault, now + timedelta(seconds=delay), stage)
                self._ctx.report_progress(run_id, run.state, None, f"{fault}; again in {delay:.0f} s")
                return delay
            case retry_policy.Pause():
                self.record(run_id, run, fault, None, stage)
                told = errors.report(fault, stage.value, str(run_id), outcome="paused")
                self._log.pause(run_id, str(told), run.state)
                self._ctx.report_progress(run_id, run.state, None, f"paused: {fault}")
                return None
            case retry_policy.End():
                if run.state in (RunState.QUEUED, RunState.RUNNING):  # its inputs are gone, its job waits for them
                    self._canceller.cancel_abandoned_attempts(run_id, run, [run.attempts[run.attempt].name])
                self._log.fail(run_id, vars(errors.report(fault, stage.value, str(run_id), outcome="ended")))
                self._ctx.report_progress(run_id, RunState.FAILED, None, str(fault))
                return None

    def handle_lost_tasks(self, run_id: UUID, faults: Mapping[int, NodeFault]) -> float | None:
        """Some tasks of an array were lost to their nodes: a further attempt has only these."""
        run = self._log.run(run_id)
        example = next(iter(faults.values()))
        count = f"{len(faults)} of {len(run.attempts[run.attempt].tasks)} tasks ({ranges.format_ranges(faults)}): "
        nodes = sorted({fault.node for fault in faults.values()})
        told = NodeFault(f"{count}{example}", node=example.node, hint=example.hint, detail=example.detail)
        lost = retry_policy.consecutive_losses(run)
        if run.state.is_terminal or run.cancel_requested or lost >= MAX_ATTEMPTS_IN_A_ROW - 1:
            return self.handle(run_id, told)
        self.record(run_id, run, told, None)
        self._start_new_attempt(run_id, run, nodes, faults, forgive=not lost)
        return 0

    def record(
        self, run_id: UUID, run: WorkflowRun, fault: Fault, retry_at: datetime | None, stage: RunState | None = None
    ) -> None:
        """Write a fault down, and when it is tried again."""
        self._log.fault(
            run_id,
            stage or run.state,
            attempt=run.attempt,
            kind=retry_policy.kind(fault),
            message=str(fault),
            detail=fault.detail,
            hint=fault.hint,
            retry_at=retry_at,
        )

    def _start_new_attempt(
        self, run_id: UUID, run: WorkflowRun, nodes: Iterable[str], tasks: Iterable[int], *, forgive: bool
    ) -> None:
        """The next attempt, elsewhere. The nodes of earlier attempts are forgiven once an attempt was not lost."""
        before = run.attempts[run.attempt]
        exclude = {node for node in nodes if node not in ("", "unknown")}
        exclude.update(() if forgive else before.excluded_nodes)
        self._canceller.cancel_abandoned_attempts(run_id, run, [before.name])
        name = self._ctx.cluster_of(run).attempt_name(run_id, run.attempt + 1)
        self._log.begin_attempt(run_id, run.attempt + 1, name, excluded_nodes=sorted(exclude), tasks=tasks)
