"""Requests about requests: several in one, a pause, a list of what there is; and saving as a request."""

from __future__ import annotations

import time
from typing import Any

import omero
import omero.clients
import omero.cmd
import omero.grid

from omero_stand_in.context import Call

from . import registry
from .registry import Run, command


def _steps_of_all(request: Any) -> int:
    known = [(registry.find(one), one) for one in request.requests or ()]
    return sum(command.steps_of(one) for command, one in known if command is not None)


@command(omero.cmd.DoAll, steps=_steps_of_all)
def do_all(run: Run) -> Any:
    """All of the requests, or none."""
    if not run.request.requests:
        raise registry.error(run.request, "no-steps")
    answer = omero.cmd.DoAllRsp([], [])
    for index, request in enumerate(run.request.requests):
        known = registry.find(request)
        if known is None:
            raise registry.error(run.request, "null-request" if request is None else "unsupported", str(type(request)))
        part = run.within(request)
        contexts = run.request.contexts or []
        if index < len(contexts) and contexts[index]:
            part.call = run.call.server.calls.of(run.call.session, {**run.call.context, **contexts[index]})
        try:
            answer.responses.append(known.run(part))
        except registry.Failed as failed:
            inner = failed.response  # the server forgets here that it was a GraphException
            raise registry.Failed(omero.cmd.ERR(inner.category, inner.name, inner.parameters)) from failed
        steps = known.steps_of(request)
        answer.status.append(omero.cmd.Status(None, "", "", [], {}, steps - 1, steps, 0, [], [], 0))
    return answer


@command(omero.cmd.Timing, steps=lambda request: int(request.steps), alone=False)
def timing(run: Run) -> Any:
    """Do nothing for a while."""
    if not run.request.steps:
        raise registry.error(run.request, "no-steps")
    for step in range(run.request.steps):
        if run.cancelled():
            raise registry.error(run.request, "not-ready")
        run.at(step)
        time.sleep(run.request.millisPerStep / 1000)
    return omero.cmd.OK()


@command(omero.cmd.ListRequests)
def list_requests(run: Run) -> Any:
    """One of each kind of request that is implemented."""
    return omero.cmd.ListRequestsRsp([kind() for kind in registry.known() if kind is not omero.api.Save])


@command(omero.api.Save)
def save(run: Run) -> Any:
    """IUpdate.saveAndReturnObject as a request."""
    answer = omero.api.SaveRsp()
    answer.obj = _saved(run.call, run, [run.request.obj])[0]
    return answer


def _refused(run: Run) -> Any:
    """What a real server does and this one does not."""
    kind = run.request.ice_id().replace("::", ".").strip(".")
    raise registry.error(run.request, "not-implemented", f"{kind} is not implemented by the stand-in OMERO server")


for _kind in (
    omero.cmd.DiskUsage,
    omero.cmd.FindPyramids,
    omero.cmd.ResetPasswordRequest,
    omero.cmd.SendEmailRequest,
    omero.grid.ImportRequest,
    omero.grid.RawAccessRequest,
):
    command(_kind)(_refused)


def _saved(call: Call, run: Run, things: list[Any]) -> list[Any]:
    from omero_stand_in.context import context_of

    with run.tx.graph.transaction(context_of(call)) as tx:
        return list(tx.save_all(things))
