"""Sessions: who is logged in, since when, for how long, and what each holds open."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import Ice
import omero
import omero.clients
import omero.sys

from . import errors
from .accounts import GUEST_GROUP, USER_GROUP
from .context import Call, ServerContext
from .servant import Service, servant_of, typed

log = logging.getLogger(__name__)

#: Milliseconds without a call after which a session ends, as the server's default has it.
TIME_TO_IDLE = 600_000
#: Milliseconds after which a session that has timed out is closed, if no call finds it earlier.
UNSEEN = 60_000
#: How much longer than that a plain user may make it.
LONGEST_IDLE_FACTOR = 10


def now() -> int:
    """Milliseconds since 1970, as the model keeps times."""
    return int(time.time() * 1000)


@dataclass(eq=False)
class Session:
    """One session; several clients may have joined it."""

    server: ServerContext
    uuid: str
    row_id: int
    user_id: int
    group_id: int
    event_type: str
    agent: str
    time_to_live: int
    time_to_idle: int
    started: int
    sudoer_id: int | None = None
    ip: str | None = None
    #: the groups that the user was in when the session began
    roles: list[int] = field(default_factory=list)
    references: int = 1
    touched: int = field(default_factory=now)
    hits: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    #: The router's controls of the clients: what proxies they may reach.
    controls: list[Any] = field(default_factory=list)
    #: How often a client has joined, and who wants to know.
    joins: int = 0
    on_join: Callable[[Session], None] | None = None
    closed: bool = False
    _services: dict[str, Service] = field(default_factory=dict)
    _hidden: list[Ice.Identity] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def touch(self) -> None:
        """A call used this session: it is not idle."""
        self.touched = now()
        self.hits += 1

    def expired(self, at: int) -> str:
        """The server's message about the timeout that ended the session; empty if it is open."""
        for name, limit, since in (
            ("timeToLive", self.time_to_live, self.started),
            ("timeToIdle", self.time_to_idle, self.touched),
        ):
            if 0 < limit < at - since:
                started, last = (_shown(moment) for moment in (self.started, self.touched))
                text = f"Session (started={started}, hits={self.hits}, last access={last})"
                return f"{text} exceeded {name} ({limit}) by {at - since - limit} ms"
        return ""

    # -- services -----------------------------------------------------------------------------------------------------
    def register(self, service: Service, name: str = "") -> Ice.ObjectPrx:
        """Put a service on the adapter under this session's category; it is one of the active services from then on."""
        name = name or f"{uuid.uuid4()}{service.interface.ice_staticId().replace('::', '.').strip('.')}"
        service.identity = Ice.Identity(name, self.uuid)
        with self._lock:
            if self.closed:
                raise errors.removed_session(f"Session has been removed: {self.uuid}")
            self._services[name] = service
            return typed(service.interface, self.server.adapter.add(servant_of(service), service.identity))

    def add_servant(self, servant: Ice.Object, identity: Ice.Identity) -> Ice.ObjectPrx:
        """Put a further servant on the adapter, to be taken away with the session; not an active service."""
        with self._lock:
            self._hidden.append(identity)
            return self.server.adapter.add(servant, identity)

    def remove_servant(self, identity: Ice.Identity) -> None:
        """Take away what `add_servant` added."""
        with self._lock:
            self._hidden = [one for one in self._hidden if one != identity]
        _remove(self.server.adapter, identity)

    def service(self, name: str) -> Service | None:
        """The active service of that name."""
        return self._services.get(name)

    def proxy(self, service: Service) -> Ice.ObjectPrx:
        """The proxy of a registered service."""
        return typed(service.interface, self.server.adapter.createProxy(service.identity))

    def active(self) -> list[str]:
        """Names of the active services."""
        with self._lock:
            return list(self._services)

    def services(self) -> Iterator[Service]:
        """The active services."""
        with self._lock:
            return iter(list(self._services.values()))

    def close_service(self, service: Service) -> None:
        """Release a service and take its servant away."""
        with self._lock:
            if service.identity is None or self._services.pop(service.identity.name, None) is None:
                return
        try:
            service.closed()
        finally:
            _remove(self.server.adapter, service.identity)

    unregister = close_service

    def shut(self) -> None:
        """Close every service of the session; the registry calls this once."""
        with self._lock:
            self.closed = True
            services, hidden = list(self._services.values()), list(self._hidden)
        for service in services:
            try:
                self.close_service(service)
            except Exception:  # one service's trouble must not keep the others open
                log.exception("closing %s", service.identity)
        for identity in hidden:
            _remove(self.server.adapter, identity)

    # -- what clients see ---------------------------------------------------------------------------------------------
    def event_context(self, call: Call) -> omero.sys.EventContext:
        """The context of the session (not of the call: the server always reports the session's group)."""
        accounts = self.server.accounts
        group = accounts.group(self.group_id)
        context = omero.sys.EventContext()
        context.shareId = -1
        context.sessionId, context.sessionUuid = self.row_id, self.uuid
        context.userId, context.userName = self.user_id, accounts.user_name(self.user_id)
        if self.sudoer_id is not None:
            context.sudoerId = omero.rtypes.rlong(self.sudoer_id)
            context.sudoerName = omero.rtypes.rstring(accounts.user_name(self.sudoer_id))
        context.groupId, context.groupName = self.group_id, group.get("name")
        context.groupPermissions = permissions_of(group)
        context.isAdmin = accounts.is_admin(self.user_id)
        context.adminPrivileges = sorted(accounts.privileges(self.user_id))
        context.eventId, context.eventType = -1, self.event_type
        groups = accounts.groups_of(self.user_id)
        context.memberOfGroups = [self.group_id] * (self.group_id in groups) + [g for g in groups if g != self.group_id]
        context.leaderOfGroups = accounts.led_by(self.user_id)
        return context


def _shown(moment: int) -> str:
    """A time as Java's Timestamp is printed."""
    return f"{datetime.fromtimestamp(moment / 1000):%Y-%m-%d %H:%M:%S}.{moment % 1000}"


def permissions_of(group: Any) -> omero.model.Permissions:
    """A group's permissions as the object that clients get."""
    return omero.model.PermissionsI(group.permissions)


def _remove(adapter: Ice.ObjectAdapter, identity: Ice.Identity) -> None:
    # it may be closed already, or the server is going down
    with contextlib.suppress(Ice.NotRegisteredException, Ice.ObjectAdapterDeactivatedException):
        adapter.remove(identity)


class Sessions:
    """All open sessions, by uuid."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server
        self._open: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._reaper: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Close what an earlier server left open, and start the thread that ends expired sessions."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            for row in list(tx.rows("Session")):
                if row.get("closed") is None and row.get("started") is not None and row.id not in self._row_ids():
                    tx.change(row, closed=now())
        self._reaper = threading.Thread(target=self._reap, name="sessions", daemon=True)
        self._reaper.start()

    def _row_ids(self) -> set[int]:
        return {0, *(session.row_id for session in self.all())}  # 0 is the server's own

    def stop(self) -> None:
        """Close every session."""
        self._stop.set()
        for session in self.all():
            self._end(session)

    def all(self) -> list[Session]:
        """Open sessions, in the order in which they were opened."""
        with self._lock:
            return list(self._open.values())

    def find(self, session_uuid: str) -> Session | None:
        """The open session of that uuid, if there is one."""
        with self._lock:
            session = self._open.get(session_uuid)
        if session and session.expired(now()):
            self._end(session)
            return None
        return session

    def get(self, session_uuid: str) -> Session:
        """The open session of that uuid; raises the server's exception if there is none."""
        with self._lock:
            session = self._open.get(session_uuid)
        if session is None:
            raise errors.removed_session(f"No context for {session_uuid}")
        self.check(session)
        return session

    def check(self, session: Session) -> None:
        """Raise for a session that has timed out, and close it; later calls do not find it."""
        why = session.expired(now())
        if why:
            self._end(session)
            raise errors.session_timeout(why)

    def create(
        self,
        user_id: int,
        group_id: int | None = None,
        *,
        event_type: str = "User",
        agent: str = "",
        ip: str | None = None,
        time_to_live: int = 0,
        time_to_idle: int = TIME_TO_IDLE,
        sudoer_id: int | None = None,
        with_owner: bool = True,
    ) -> Session:
        """Open a session; nothing but the event type is checked here."""
        accounts = self.server.accounts
        if group_id is None or group_id in (USER_GROUP, GUEST_GROUP):
            group_id = accounts.default_group(user_id)
        graph = self.server.graph
        session_uuid, started = str(uuid.uuid4()), now()
        with graph.transaction(graph.server()) as tx:
            if not tx.where("EventType", value=event_type):
                raise errors.authentication("Error creating session.")
            row = tx.insert(
                "Session",
                uuid=session_uuid,
                node=0,
                owner=user_id if with_owner else None,
                sudoer=sudoer_id if with_owner else None,
                userAgent=agent,
                userIP=ip,
                timeToIdle=time_to_idle,
                timeToLive=time_to_live,
                started=started,
                message="Initial message.",
                defaultEventType=event_type,
            )
        session = Session(
            self.server, session_uuid, row.id, user_id, group_id, event_type, agent,
            time_to_live, time_to_idle, started, sudoer_id, ip,
        )  # fmt: skip
        session.roles = accounts.groups_of(user_id)
        with self._lock:
            self._open[session_uuid] = session
        return session

    def close(self, session_uuid: str) -> int:
        """As `leave`; raises the server's exception if there is no such session."""
        self.get(session_uuid)
        return self.leave(session_uuid)

    def leave(self, session_uuid: str, end: bool = True) -> int:
        """Drop one reference; without any the session ends, unless it is detached. Returns how many are left."""
        session = self.find(session_uuid)
        if session is None:
            return 0
        with self._lock:
            session.references -= 1
            left = session.references
        if left < 1 and end:
            self._end(session)
        return left

    def end(self, session_uuid: str) -> None:
        """End a session whatever refers to it; nothing happens if there is none."""
        session = self.find(session_uuid)
        if session:
            self._end(session)

    def _end(self, session: Session) -> None:
        with self._lock:
            if self._open.pop(session.uuid, None) is None:
                return
        session.shut()
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            row = tx.find("Session", session.row_id)
            if row:
                tx.change(row, closed=now())

    def _reap(self) -> None:
        while not self._stop.wait(2):
            at = now()
            for session in self.all():
                if session.expired(at - UNSEEN):
                    log.info("session %s of user %s has timed out", session.row_id, session.user_id)
                    self._end(session)
