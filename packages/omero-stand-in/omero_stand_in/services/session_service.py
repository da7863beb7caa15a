"""ISession: sessions made for others or for oneself, looked up, closed, and their inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import omero
import omero.clients
from omero import constants
from omero.rtypes import rlong, rstring, unwrap

from omero_stand_in import errors
from omero_stand_in.context import Call
from omero_stand_in.servant import Service
from omero_stand_in.sessions import LONGEST_IDLE_FACTOR, TIME_TO_IDLE, Session

from . import environment

if TYPE_CHECKING:
    import omero.sys

#: The namespace of the note that the server puts on a session which a group's owner opened for a member.
GROUP_SUDO = "openmicroscopy.org/security/group-sudo"
_PLAIN = (omero.RBool, omero.RInt, omero.RLong, omero.RFloat, omero.RDouble, omero.RString, omero.RTime)
_INPUTS = (*_PLAIN, omero.RCollection, omero.RMap, omero.RObject, omero.RInternal, omero.RClass)


class SessionService(Service):
    """A session's uuid is a secret: who knows it may read it, its inputs and outputs, and close it."""

    interface = omero.api.ISession

    # -- making -------------------------------------------------------------------------------------------------------
    def createSession(self, call: Call, principal: omero.sys.Principal, credentials: str) -> Any:
        """Refused by the server measured for everybody who is logged in, which is everybody who can call it."""
        raise errors.authentication(
            "Unknown error (java.lang.IllegalStateException):Already logged in. Use Executor.submit() and .get()."
        )

    def createSessionWithTimeout(self, call: Call, principal: omero.sys.Principal, live: int) -> Any:
        """A session for another user, which never idles out."""
        return self.createSessionWithTimeouts(call, principal, live, 0)

    def createSessionWithTimeouts(self, call: Call, principal: omero.sys.Principal, live: int, idle: int) -> Any:
        """A session for another user: by an administrator who may, or by the owner of a group that the user is in."""
        accounts, known = self.server.accounts, self.server.sessions.find(principal.name or "")
        if known is not None:  # the name is a session's uuid: that is the session
            known.references += 1
            return self._shown(known)
        user_id = accounts.find_user(principal.name or "")
        group_id = accounts.find_group(principal.group) if principal.group else None
        may_all = call.is_admin and "Sudo" in call.privileges
        if user_id is None or (principal.group and group_id is None):
            raise errors.authentication("Error creating session.")
        if not may_all:
            self._check_owner(call, user_id, group_id)
        session = self.server.sessions.create(
            user_id,
            group_id,
            event_type=principal.eventType or "User",
            agent=call.context.get(constants.AGENT, "OMERO.sudo"),
            time_to_live=live,
            time_to_idle=idle,
            sudoer_id=call.session.sudoer_id if call.session.sudoer_id is not None else call.user_id,
        )
        shown = self._shown(session)
        if not may_all:
            shown.linkAnnotation(_group_sudo_note())
        return shown

    def _check_owner(self, call: Call, user_id: int, group_id: int | None) -> None:
        accounts = self.server.accounts
        group_id = accounts.default_group(user_id) if group_id is None else group_id
        if group_id not in call.leader_of or accounts.is_admin(user_id):
            name = accounts.group(group_id).get("name")
            raise errors.security(f"Group sudo is not permitted for group {name} (gid={group_id})")

    def createUserSession(self, call: Call, live: int, idle: int, group: str) -> Any:
        """A further session of the caller's own."""
        accounts = self.server.accounts
        group_id = accounts.find_group(group) if group else None
        if group and (group_id is None or (group_id not in call.member_of and not call.is_admin)):
            raise errors.authentication("Error creating session.")
        longest = TIME_TO_IDLE * LONGEST_IDLE_FACTOR
        if idle == 0:
            raise errors.security(f"Cannot disable timeToIdle. Value must be between 1 and {longest}")
        session = self.server.sessions.create(
            call.user_id,
            group_id,
            agent=call.context.get(constants.AGENT, "createSession"),
            time_to_live=live,
            time_to_idle=min(idle, longest),
            sudoer_id=call.session.sudoer_id,
            with_owner=False,
        )
        return self._shown(session)

    # -- looking up and closing ---------------------------------------------------------------------------------------
    def getSession(self, call: Call, uuid: str) -> Any:
        """The session's row."""
        return self._shown(self.server.sessions.get(uuid))

    def getReferenceCount(self, call: Call, uuid: str) -> int:
        """How many clients use the session."""
        return self.server.sessions.get(uuid).references

    def closeSession(self, call: Call, session: Any) -> int:
        """Drop one reference to the session; how many are left, -2 if it has ended now, -1 if there is none."""
        uuid = unwrap(session.uuid)
        if self.server.sessions.find(uuid) is None:
            return -1
        left = self.server.sessions.leave(uuid)
        return left if left > 0 else -2

    def getMyOpenSessions(self, call: Call) -> list[Any]:
        """All open sessions of the caller."""
        return [self._shown(session) for session in self._mine(call)]

    def getMyOpenAgentSessions(self, call: Call, agent: str) -> list[Any]:
        """Those of them that were opened under that agent's name."""
        return [self._shown(session) for session in self._mine(call) if session.agent == agent]

    def getMyOpenClientSessions(self, call: Call) -> list[Any]:
        """Those of them opened by OMERO.insight and its like."""
        agents = ("OMERO.insight", "OMERO.web", "OMERO.importer")
        return [self._shown(session) for session in self._mine(call) if session.agent in agents]

    def _mine(self, call: Call) -> list[Session]:
        """Newest first; in a session for another user, those that the same login opened for this user."""
        mine = [one for one in self.server.sessions.all() if one.user_id == call.user_id and one.agent != "server"]
        if not (call.is_admin and "ReadSession" in call.privileges):
            mine = [one for one in mine if one.sudoer_id == call.session.sudoer_id]
        return mine[::-1]

    def _shown(self, session: Session) -> Any:
        """The session as a model object, with what is known of it now."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            shown = tx.load(tx.get("Session", session.row_id))
        shown.details.group = omero.model.ExperimenterGroupI(session.group_id, False)
        shown.timeToLive, shown.timeToIdle = rlong(session.time_to_live), rlong(session.time_to_idle)
        return shown

    # -- inputs and outputs -------------------------------------------------------------------------------------------
    def getInput(self, call: Call, uuid: str, key: str) -> Any:
        """One input, or null."""
        return environment.given_back(self.server.sessions.get(uuid).inputs.get(key))

    def getOutput(self, call: Call, uuid: str, key: str) -> Any:
        """One output, or null."""
        return environment.given_back(self.server.sessions.get(uuid).outputs.get(key))

    def setInput(self, call: Call, uuid: str, key: str, value: Any) -> None:
        """Keep an input until the session ends."""
        self.server.sessions.get(uuid).inputs[key] = _checked(value)

    def setOutput(self, call: Call, uuid: str, key: str, value: Any) -> None:
        """Keep an output until the session ends."""
        self.server.sessions.get(uuid).outputs[key] = _checked(value)

    def getInputKeys(self, call: Call, uuid: str) -> list[str]:
        """Names of the inputs."""
        return list(self.server.sessions.get(uuid).inputs)

    def getOutputKeys(self, call: Call, uuid: str) -> list[str]:
        """Names of the outputs."""
        return list(self.server.sessions.get(uuid).outputs)

    def getInputs(self, call: Call, uuid: str) -> dict[str, Any]:
        """All inputs."""
        return environment.all_of(self.server.sessions.get(uuid).inputs)

    def getOutputs(self, call: Call, uuid: str) -> dict[str, Any]:
        """All outputs."""
        return environment.all_of(self.server.sessions.get(uuid).outputs)


def _checked(value: Any) -> Any:
    if not isinstance(value, _INPUTS):
        raise errors.api_usage("Can't handle input class java.lang.Object")
    return value


def _group_sudo_note() -> Any:
    note = omero.model.CommentAnnotationI()
    note.ns, note.textValue = rstring(GROUP_SUDO), rstring("group owner")
    return note
