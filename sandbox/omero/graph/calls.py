"""From a client's call to the context in which its transactions run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entity import Context

if TYPE_CHECKING:
    from sandbox.omero.call import Call


def context_of(call: Call) -> Context:
    """The graph's context of a call."""
    return Context(
        user=call.user_id,
        group=call.group_id,
        session=call.session.row_id,
        is_admin=call.is_admin,
        privileges=frozenset(call.privileges),
        member_of=frozenset(call.member_of),
        leader_of=frozenset(call.leader_of),
        event_type=call.event_type,
    )
