"""The request of an ended run once more: all of it, or what failed of it. Pure."""

from __future__ import annotations

from biomeroworker.domain.request import RunRequest
from biomeroworker.engine.results.task_outcomes import failed_inputs
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState


def build_rerun_request(run: WorkflowRun, *, failed: bool = False) -> RunRequest:
    """What to hand in to run an ended run again, linked to it.

    Parameters
    ----------
    failed
        Only the inputs that failed: of a run that is partly done those that its report names, of one that has failed
        all.

    Raises
    ------
    Refused
        The run has not ended, is not ours, or nothing of it failed.
    """
    if run.request is None:
        raise RequestRejected(f"run {run.id} was recorded by another program: there is no request to hand in again")
    if not run.state.is_terminal:
        raise RequestRejected(f"run {run.id} has not ended; it is {run.state.value}")
    again = run.request_model.model_copy(update={"retry_of": str(run.id)})
    if not failed or run.state is RunState.FAILED:
        return again
    if run.state is RunState.CANCELLED:
        raise RequestRejected(f"run {run.id} was cancelled, which is no failure; run it again without --failed")
    only = failed_inputs(run.report)
    if not only:
        raise RequestRejected(f"nothing of run {run.id} failed: all its results are there")
    return again.model_copy(update={"only": only})
