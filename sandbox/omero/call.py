"""One call of one client: who calls, as member of which group, with which context."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import Ice

from . import errors

if TYPE_CHECKING:
    from .servant import Service
    from .server import Server
    from .sessions import Session

#: The group id that stands for all groups of the caller.
ALL_GROUPS = -1

_current: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)


@dataclass
class Call:
    """The caller's identity and rights for the time of one operation."""

    server: Server
    session: Session
    user_id: int
    #: Group asked for: the session's, another of the caller's, or `ALL_GROUPS`.
    group_id: int
    is_admin: bool
    privileges: frozenset[str]
    event_type: str
    context: Mapping[str, str] = field(default_factory=dict)
    current: Ice.Current | None = None

    @property
    def member_of(self) -> list[int]:
        """Groups of the caller, the default one first."""
        return self.server.accounts.groups_of(self.user_id)

    @property
    def leader_of(self) -> list[int]:
        """Groups that the caller owns."""
        return self.server.accounts.led_by(self.user_id)

    @classmethod
    def now(cls) -> Call:
        """The call that this thread is answering."""
        call = _current.get()
        if call is None:
            raise RuntimeError("no call is being answered")
        return call


class Calls:
    """Makes calls out of what Ice says of them."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @contextlib.contextmanager
    def enter(self, service: Service, current: Ice.Current | None) -> Iterator[Call]:
        """Answer a call to a service for the length of the ``with`` block."""
        session = service.session
        self.server.sessions.check(session)
        session.touch()
        call = self.of(session, dict(current.ctx) if current else {}, current, service.checks_group)
        with self.entered(call):
            yield call

    @contextlib.contextmanager
    def entered(self, call: Call) -> Iterator[Call]:
        """Make a call the current one of this thread for the length of the ``with`` block."""
        token = _current.set(call)
        try:
            yield call
        finally:
            _current.reset(token)

    def of(
        self,
        session: Session,
        context: Mapping[str, str],
        current: Ice.Current | None = None,
        checks_group: bool = True,
    ) -> Call:
        """The call that a session makes with a context; raises if the group in it is not the caller's."""
        accounts = self.server.accounts
        asked = _number(context.get("omero.group", ""))
        group_id = session.group_id if asked is None else asked
        is_admin = accounts.is_admin(session.user_id)
        if checks_group and group_id != ALL_GROUPS:
            if asked is not None and not accounts.group_exists(group_id):
                raise errors.validation(
                    f"No row with the given identifier exists: [ome.model.meta.ExperimenterGroup#{group_id}]"
                )
            if not is_admin and group_id not in accounts.groups_of(session.user_id):
                raise errors.security(f"User {session.user_id} is not a member of group {group_id} and cannot login")
        return Call(
            self.server,
            session,
            session.user_id,
            group_id,
            is_admin,
            accounts.privileges(session.user_id),
            session.event_type,
            context,
            current,
        )


def _number(text: str) -> int | None:
    """A group id; anything else in its place is ignored, as the server does."""
    try:
        return int(text)
    except ValueError:
        return None
