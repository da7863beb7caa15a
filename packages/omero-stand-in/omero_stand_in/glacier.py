"""The two objects that the Glacier2 router calls: they check a login, and create its session."""

from __future__ import annotations

import logging
from typing import Any

import Glacier2
import Ice
import omero
import omero.clients
from omero import constants

from . import errors
from .context import ServerContext
from .service_factory import ServiceFactory
from .sessions import Session

#: What every client may reach: a processor's callbacks, and the processes that colleagues may poll.
SHARED_CATEGORIES = (constants.categories.PROCESSORCALLBACK, constants.categories.PROCESSCALLBACK)

log = logging.getLogger(__name__)


class Verifier(Glacier2.PermissionsVerifier):
    """Checks a name and password, or a session's uuid given as both."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server

    def checkPermissions(self, user: str, password: str, current: Ice.Current | None = None) -> tuple[bool, str]:
        """Whether to let in, and why not."""
        sessions, accounts = self.server.sessions, self.server.accounts
        if sessions.find(user) or sessions.find(password):
            if user == password:
                return True, ""
            return False, "username and password must be equal; use joinSession"
        user_id = accounts.find_user(user)
        if user_id is not None and accounts.check_password(user_id, password):
            return True, ""
        return False, f"Password check failed for '{user}': [{'' if user_id is None else f'id={user_id}'}]"


class Manager(Glacier2.SessionManager):
    """Opens or joins the session of a login that the verifier let in."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server

    def create(self, user: str, control: Any, current: Ice.Current | None = None) -> Any:
        """The session's factory, for one client."""
        try:
            return self._create(user, control, dict(current.ctx) if current else {})
        except Glacier2.CannotCreateSessionException:
            raise
        except Exception as error:
            raise wrapped(error) from error

    def _create(self, user: str, control: Any, context: dict[str, str]) -> Any:
        client_id = context.get(constants.CLIENTUUID)
        if not client_id:
            raise errors.api_usage(f"No {constants.CLIENTUUID} key provided in context.")
        session = self._join(user) or self._login(user, context)
        factory = ServiceFactory(self.server, session, client_id, control)
        proxy = factory.publish()
        if control is not None:
            control.categories().add([factory.identity.category, session.uuid, *SHARED_CATEGORIES])
            session.controls.append(control)
        return Glacier2.SessionPrx.uncheckedCast(proxy)

    def _join(self, session_uuid: str) -> Session | None:
        session = self.server.sessions.find(session_uuid)
        if session:
            session.references += 1
            session.joins += 1
            if session.on_join:
                session.on_join(session)
            session.touch()
        return session

    def _login(self, user: str, context: dict[str, str]) -> Session:
        accounts = self.server.accounts
        user_id = accounts.find_user(user)
        if user_id is None:
            raise errors.removed_session(f"No context for {user}")
        group_id = None
        if name := context.get(constants.GROUP):
            group_id = accounts.find_group(name)
            if group_id is None:
                raise errors.api_usage(f"No such group: {name}")
        return self.server.sessions.create(
            user_id,
            group_id,
            event_type=context.get(constants.EVENT) or "User",
            agent=context.get(constants.AGENT, ""),
            ip=context.get(constants.IP),
        )


def wrapped(error: Exception) -> Exception:
    """The one kind of exception that reaches a client through the router's login."""
    log.warning("login refused: %s", error)
    answer = omero.WrappedCreateSessionException()
    answer.reason = getattr(error, "message", "") or str(error)
    answer.type = getattr(error, "serverExceptionClass", "") or type(error).__name__
    answer.concurrency, answer.backOff = False, -1
    return answer
