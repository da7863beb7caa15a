"""Build the request for a second run of an ended run, for all of its inputs or for those without a result. Pure."""

from __future__ import annotations

from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState


def build_rerun_request(run: WorkflowRun, *, failed: bool = False) -> RunRequest:
    """Build the request of a new run that is linked to an ended run.

    Parameters
    ----------
    failed
        Only the inputs without a result: of a run that is done those that failed or were skipped
        (`WorkflowRun.without_result`), of a failed run all.

    Raises
    ------
    RequestRejected
        The run has not ended, was not accepted by this program, or has a result for each input.
    """
    if run.request is None:
        raise RequestRejected(f"run {run.id} was recorded by another program, without a request to repeat")
    if not run.state.is_terminal:
        raise RequestRejected(f"run {run.id} has not ended: its state is {run.state.value}")
    again = run.request_model.model_copy(update={"retry_of": str(run.id)})
    if not failed or run.state is RunState.FAILED:
        return again
    if run.state is RunState.CANCELLED:
        raise RequestRejected(f"run {run.id} was cancelled, so no inputs failed: use retry without --failed")
    if not run.without_result:
        raise RequestRejected(f"run {run.id} has no failed inputs: each input has a result")
    return again.model_copy(update={"only": run.without_result})
