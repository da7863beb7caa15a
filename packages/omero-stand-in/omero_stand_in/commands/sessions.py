"""Requests about sessions: how long they last, and which there are."""

from __future__ import annotations

from typing import Any

import omero
import omero.clients
import omero.cmd
from omero.rtypes import rlong, rstring

from omero_stand_in.sessions import LONGEST_IDLE_FACTOR, TIME_TO_IDLE

from . import registry
from .registry import Run, command


@command(omero.cmd.UpdateSessionTimeoutRequest)
def update_timeout(run: Run) -> Any:
    """Other times to live and idle; a plain user cannot stay idle for ever."""
    request = run.request
    session = run.call.server.sessions.find(request.session)
    if session is None or not (run.call.is_admin or session.user_id == run.call.user_id):
        raise registry.error(request, "no-session", f"No session with uuid: {request.session}")
    if request.timeToLive is not None:
        session.time_to_live = request.timeToLive.val
    if request.timeToIdle is not None:
        idle = request.timeToIdle.val
        longest = TIME_TO_IDLE * LONGEST_IDLE_FACTOR
        session.time_to_idle = idle if run.call.is_admin else min(idle, longest) if idle > 0 else longest
    return omero.cmd.OK()


@command(omero.cmd.CurrentSessionsRequest)
def current_sessions(run: Run) -> Any:
    """All open sessions; the context of other users' sessions only for administrators."""
    answer, call = omero.cmd.CurrentSessionsResponse([], [], []), run.call
    with run.tx.graph.transaction(run.tx.graph.server()) as tx:
        for session in call.server.sessions.all():
            mine = call.is_admin or session.user_id == call.user_id
            answer.sessions.append(tx.load(tx.get("Session", session.row_id)) if mine else None)
            answer.contexts.append(session.event_context(call) if mine else None)
            answer.data.append({"userAgent": rstring(session.agent), "touched": rlong(session.touched)} if mine else {})
    return answer
