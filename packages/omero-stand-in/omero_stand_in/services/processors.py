"""Which processors there are, and which of them takes a job.

The real server publishes its question on an IceStorm topic; here the server stores the subscribers itself, with
what clients can see of IceStorm: a processor is known by its Ice identity, a second one with the same identity is
ignored, a dead one is removed when a call to it fails, and subscriptions outlive the server.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.model
from omero.constants.categories import PROCESSORCALLBACK

from omero_stand_in.context import Call, ServerContext

log = logging.getLogger(__name__)

#: What a processor that is no more answers; any other failure leaves the subscription as it is.
GONE = (Ice.ObjectNotExistException, Ice.SocketException, Ice.NotRegisteredException)

#: Seconds in which a processor that accepted a job may return from the call, before it gets the job.
COURTESY = 0.5


class Processors:
    """The processors that have registered with one server."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._known: dict[str, Ice.ObjectPrx] = {}
        self._publisher = publisher(server.communicator)
        atexit.register(self._publisher.destroy)
        with server.graph.transaction(server.graph.server()) as tx:
            for identity, proxy in (tx.load_value("processors", "all") or {}).items():
                self._known[identity] = self._publisher.stringToProxy(proxy)

    @classmethod
    def of(cls, server: ServerContext) -> Processors:
        """The processors of a server; there is one such object per server."""
        known = vars(server).get("_processors")
        return known or vars(server).setdefault("_processors", cls(server))

    def add(self, proxy: Ice.ObjectPrx) -> None:
        """Subscribe a processor, unless one of its identity is subscribed already."""
        with self._lock:
            self._known.setdefault(self._name(proxy), self._publisher.stringToProxy(str(proxy)))
        self._store()

    def remove(self, proxy: Ice.ObjectPrx) -> None:
        """Unsubscribe; nothing happens if the processor is not known."""
        with self._lock:
            self._known.pop(self._name(proxy), None)
        self._store()

    def all(self) -> list[Any]:
        """The subscribed processors."""
        with self._lock:
            # a node that was restarted has moved, and nothing is tried twice: no address from before
            return [
                omero.grid.ProcessorPrx.uncheckedCast(proxy.ice_locatorCacheTimeout(0))
                for proxy in self._known.values()
            ]

    def _name(self, proxy: Ice.ObjectPrx) -> str:
        return self.server.communicator.identityToString(proxy.ice_getIdentity())

    def _store(self) -> None:
        with self._lock:
            known = {identity: str(proxy) for identity, proxy in self._known.items()}
        with self.server.graph.transaction(self.server.graph.server()) as tx:
            tx.store_value("processors", "all", known)

    def offer(self, call: Call, job: omero.model.Job | None, seconds: float) -> tuple[Any, int]:
        """Offer a job of the caller to every processor; the first that accepts gets it.

        Returns
        -------
        tuple
            The processor's proxy, or None if none accepted within ``seconds``; and the number of answers.
        """
        until = time.monotonic() + seconds
        answers = Answers(call)
        identity = Ice.Identity(str(uuid.uuid4()), PROCESSORCALLBACK)
        adapter = self.server.adapter
        adapter.add(answers, identity)
        try:
            callback = omero.grid.ProcessorCallbackPrx.uncheckedCast(adapter.createDirectProxy(identity))
            group = call.session.group_id if call.group_id < 0 else call.group_id
            question = (omero.model.ExperimenterI(call.user_id, False), omero.model.ExperimenterGroupI(group, False))
            returned = {}
            for processor in self.all():
                returned[processor.ice_getIdentity()] = done = threading.Event()
                failed = self._failed(processor, done)
                processor.begin_willAccept(*question, job, callback, lambda *_, done=done: done.set(), failed, None, {})
            answers.decided.wait(max(0.0, until - time.monotonic()))
            if answers.winner is not None:  # it may still be busy with the question, or with going away
                returned.get(answers.winner.ice_getIdentity(), answers.decided).wait(COURTESY)
            return answers.winner, answers.count
        finally:
            adapter.remove(identity)

    def _failed(self, processor: Ice.ObjectPrx, done: threading.Event) -> Callable[[Exception], None]:
        def on_error(error: Exception) -> None:
            log.info("call to processor %s failed: %s", processor, type(error).__name__)
            if isinstance(error, GONE):
                self.remove(processor)
            done.set()

        return on_error


def publisher(communicator: Ice.Communicator) -> Ice.Communicator:
    """The communicator by which questions are sent: each once, as IceStorm does, never again after an error.

    ``willAccept`` is idempotent, so a default communicator would repeat a call that fails.
    """
    data = Ice.InitializationData()
    data.properties = Ice.createProperties()
    for name in ("Ice.Default.Locator", "Ice.MessageSizeMax", "Ice.Override.ConnectTimeout"):
        data.properties.setProperty(name, communicator.getProperties().getProperty(name))
    data.properties.setProperty("Ice.RetryIntervals", "-1")
    return Ice.initialize(data)


class Answers(omero.grid.ProcessorCallback):
    """What processors answer to one question."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.winner: Any = None
        self.count = 0
        self.decided = threading.Event()
        self._lock = threading.Lock()

    def isProxyAccepted(self, accepted: bool, session: str, proxy: Any, current: Ice.Current | None = None) -> None:
        """An answer; a yes counts only in the session of an administrator or of the caller."""
        with self._lock:
            self.count += 1
            if not accepted or self.winner is not None or not self._may_serve(session):
                return
            self.winner = omero.grid.ProcessorPrx.uncheckedCast(proxy)
        self.decided.set()

    def isAccepted(self, accepted: bool, session: str, proxy: str, current: Ice.Current | None = None) -> None:
        """The older form of the answer, with the proxy as text."""
        self.isProxyAccepted(accepted, session, self.call.server.communicator.stringToProxy(proxy), current)

    def responseRunning(self, jobs: list[int], current: Ice.Current | None = None) -> None:
        """The answer to a call that this server does not make."""

    def _may_serve(self, uuid_of_session: str) -> bool:
        session = self.call.server.sessions.find(uuid_of_session)
        if session is None:
            return False
        return session.user_id == self.call.user_id or self.call.server.accounts.is_admin(session.user_id)
