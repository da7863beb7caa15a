"""One call of one client: who calls, in which group; and what calls and services know of their server and session.

The server makes sessions, sessions hold services, and services use both. The protocols here are what each may use, so
that no module imports the one that made it.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import Ice

from . import errors
from .accounts import Accounts
from .files_on_disk import Disk
from .graph import Context, Graph

#: The group id that stands for all groups of the caller.
ALL_GROUPS = -1

_current: contextvars.ContextVar[Call | None] = contextvars.ContextVar("call", default=None)


class ServiceContext(Protocol):
    """A service, as its session and the dispatcher see it."""

    interface: type
    checks_group: bool
    session: SessionContext


class SessionContext(Protocol):
    """A session, as services and calls see it."""

    uuid: str
    row_id: int
    user_id: int
    group_id: int
    event_type: str
    sudoer_id: int | None

    def touch(self) -> None:
        """Something was requested in this session: it is not idle."""

    def register(self, service: Any, name: str = "") -> Ice.ObjectPrx:
        """Put a service on the adapter; it is one of the active services from then on."""

    def unregister(self, service: Any) -> None:
        """Release a service and take its servant away."""

    def close_service(self, service: Any) -> None:
        """Release a service and take its servant away."""

    def event_context(self, call: Call) -> Any:
        """The omero.sys.EventContext of the session."""


class SessionRegistry(Protocol):
    """All open sessions."""

    def all(self) -> list[Any]:
        """Open sessions, oldest first."""

    def find(self, session_uuid: str) -> Any:
        """The open session of that uuid, or None."""

    def get(self, session_uuid: str) -> Any:
        """The open session of that uuid; raises the server's exception if there is none."""

    def check(self, session: Any) -> None:
        """Raise for a session that has exceeded one of its timeouts, and end it."""

    def create(self, user_id: int, group_id: int | None = None, **options: Any) -> Any:
        """Open a session."""

    def close(self, session_uuid: str) -> int:
        """As `leave`; raises the server's exception if there is no such session."""

    def leave(self, session_uuid: str, end: bool = True) -> int:
        """Drop one reference to a session; returns how many are left."""

    def end(self, session_uuid: str) -> None:
        """End a session whatever refers to it."""


class Settings(Protocol):
    """The server's settings."""

    database_uuid: str

    def values(self) -> dict[str, str]:
        """Every setting as it stands."""

    def set(self, key: str, value: str | None) -> None:
        """Change a setting, or with None return to its default."""


class ServerContext(Protocol):
    """The server, as its sessions and services see it."""

    communicator: Ice.Communicator
    adapter: Ice.ObjectAdapter
    data: Path
    disk: Disk
    graph: Graph
    accounts: Accounts
    config: Settings
    sessions: SessionRegistry
    calls: Calls

    def root_call(self, group_id: int = ALL_GROUPS) -> Call:
        """A call that the server makes itself, as root."""

    def call_as(self, call: Call, **context: str) -> Call:
        """The same caller with other values in its context."""


@dataclass
class Call:
    """The caller's identity and rights for the time of one operation."""

    server: ServerContext
    session: SessionContext
    user_id: int
    #: Requested group: the session's, another of the caller's, or `ALL_GROUPS`.
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
    """Creates calls from the context that Ice passes."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server

    @contextlib.contextmanager
    def enter(self, service: ServiceContext, current: Ice.Current | None) -> Iterator[Call]:
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
        session: SessionContext,
        context: Mapping[str, str],
        current: Ice.Current | None = None,
        checks_group: bool = True,
    ) -> Call:
        """The call that a session makes with a context; raises if the group in it is not the caller's."""
        accounts = self.server.accounts
        requested = _number(context.get("omero.group", ""))
        group_id = session.group_id if requested is None else requested
        is_admin = accounts.is_admin(session.user_id)
        if checks_group and group_id != ALL_GROUPS:
            if requested is not None and not accounts.group_exists(group_id):
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


def _number(text: str) -> int | None:
    """A group id; anything else in its place is ignored, as the server does."""
    try:
        return int(text)
    except ValueError:
        return None
