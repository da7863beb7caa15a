"""Find a run, and cancel, resume or repeat it on behalf of a user.

The command line acts for the administrator of the worker: it may act on every run. An OMERO script acts for its user
(`Requester`), who may act on the own runs; administrators of OMERO may act on every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from biomeroworker.deployment.rerun import build_rerun_request
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.records import RunSummary
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import RunLog

#: Runs among which the start of an ID is looked up.
RUNS_SEARCHED = 10_000
#: Failed inputs that a message names.
INPUTS_NAMED = 5


@dataclass(frozen=True)
class Requester:
    """The OMERO user who acts."""

    user: int
    is_admin: bool = False

    def may_act_on(self, owner: int) -> bool:
        """Whether the user may cancel, resume and repeat the runs of an owner."""
        return self.is_admin or owner == self.user


def matching(runs: Iterable[RunSummary], given: str, hint: str) -> UUID:
    """The ID of the only run whose ID starts with ``given``. Raises `RequestRejected`, with the hint, for none."""
    found = [run.id for run in runs if str(run.id).startswith(given.lower())]
    if len(found) == 1:
        return found[0]
    if not found:
        raise RequestRejected(f"no run has an ID that starts with {given!r}; {hint}")
    raise RequestRejected(f"{len(found)} runs have an ID that starts with {given!r}: give more characters")


def find(log: RunLog, given: str, requester: Requester) -> WorkflowRun:
    """The run with this ID, or with an ID that starts so.

    Raises
    ------
    RequestRejected
        There is none or several, or it belongs to another user.
    """
    try:
        run_id = UUID(given)
    except ValueError:
        own = None if requester.is_admin else requester.user
        whose = "the whole ID is in the message of the run" if requester.is_admin else "only your own runs can be given"
        run_id = matching(log.runs(user=own, limit=RUNS_SEARCHED), given, whose)
    run = log.run(run_id)
    if not requester.may_act_on(run.user):
        raise RequestRejected(f"run {run.id} belongs to another user: only its owner or an administrator may change it")
    return run


def cancel(log: RunLog, run: WorkflowRun, by: str) -> str:
    """Request the cancellation of a run; return what happens next.

    Raises
    ------
    RequestRejected
        The run has ended, or another program recorded it.
    """
    if run.state.is_terminal:
        raise RequestRejected(f"run {run.id} has already ended: {run.state.value}")
    if run.request is None:
        raise RequestRejected(f"run {run.id} was recorded by another program: cancel it there, or with scancel")
    log.request_cancel(run.id, by)
    if run.state is RunState.IMPORTING:
        return "An import that has started is completed first."
    if run.job_ids:
        return (
            f"The supervisor cancels SLURM job {run.job_ids[-1]}; then the run ends as cancelled. Nothing is imported."
        )
    return "The run ends as cancelled at its next step. No job is submitted."


def resume(log: RunLog, run: WorkflowRun) -> str:
    """Let a paused run continue; return what happens next. Raises `RequestRejected` if it is not paused."""
    if not run.paused:
        raise RequestRejected(f"run {run.id} is not paused: its state is {run.state.value}")
    log.resume(run.id)
    return f"It continues with the step {run.state.value!r}. If the cause still exists, it is paused again."


def repeat(run: WorkflowRun, *, failed: bool, switch: str) -> tuple[RunRequest, str]:
    """The request of a new run that repeats an ended run, and a sentence about its inputs.

    Parameters
    ----------
    failed
        Only the inputs without a result. All inputs of a run that failed or was cancelled: it has no results.
    switch
        The name of the option behind ``failed``, for the message.

    Raises
    ------
    RequestRejected
        As by `build_rerun_request`.
    """
    if failed and run.state is RunState.DONE and not run.without_result:
        raise RequestRejected(f"run {run.id} has a result for each input; switch off {switch!r} to repeat all inputs")
    request = build_rerun_request(run, failed=failed and run.state is not RunState.CANCELLED)
    if not request.only:
        return request, "All inputs, with the same parameters."
    names = list(request.only.values())
    more = f" and {len(names) - INPUTS_NAMED} more" if len(names) > INPUTS_NAMED else ""
    return request, f"Only the inputs without a result: {', '.join(names[:INPUTS_NAMED])}{more}."
