"""Sessions of the owners of jobs, beside those that OMERO opens for their scripts."""

from __future__ import annotations

import contextlib
from typing import Any

import Ice
import omero
import omero.clients
import omero.model
from omero.rtypes import rstring

from biomeroworker.omero.connection.credentials import IDLE_TIMEOUT_MS, open_for


def open_for_owner(sf: Any, user: int, group: int) -> str:
    """Open a session of a user in a group, by the right of the session ``sf``; returns its uuid, which is a secret.

    In the grid that is the right of an internal session. An attached Processor may do it for its own user, and for
    others if its user has the privilege Sudo; otherwise this raises.
    """
    if sf.getAdminService().getEventContext().userId != user:
        return open_for(sf, user, group)
    name = sf.getAdminService().getGroup(group).name.val
    return str(sf.getSessionService().createUserSession(0, IDLE_TIMEOUT_MS, name).uuid.val)


def close_session(sf: Any, uuid: str) -> None:
    """End a session, for all who have joined it."""
    session = omero.model.SessionI()
    session.uuid = rstring(uuid)
    with contextlib.suppress(omero.ServerError, Ice.Exception):  # it has ended
        while sf.getSessionService().closeSession(session) > 0:
            pass
