"""Sessions of the owners of jobs, in addition to those that OMERO opens for their scripts."""

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
    """Open a session of a user in a group with the privileges of the session ``sf``; returns its uuid, a secret.

    An internal session of the grid may do this for all users. An attached Processor may do it for its own user, and for
    others only if its user has the privilege Sudo.

    Raises
    ------
    omero.ServerError
        The privilege is missing.
    """
    if sf.getAdminService().getEventContext().userId != user:
        return open_for(sf, user, group)
    name = sf.getAdminService().getGroup(group).name.val
    return str(sf.getSessionService().createUserSession(0, IDLE_TIMEOUT_MS, name).uuid.val)


def close_session(sf: Any, uuid: str) -> None:
    """Close a session for all clients that have joined it."""
    session = omero.model.SessionI()
    session.uuid = rstring(uuid)
    with contextlib.suppress(omero.ServerError, Ice.Exception):  # it has ended
        while sf.getSessionService().closeSession(session) > 0:
            pass
