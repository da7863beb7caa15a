"""What a client holds after its login: the factory of services, and the end of its part in the session."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import Ice
import omero
import omero.clients

from . import errors, services
from .context import Call, ServerContext
from .servant import Service, servant_of
from .sessions import Session

log = logging.getLogger(__name__)

#: ``getXService()`` by what X stands for.
STATELESS = [
    "Admin",
    "Config",
    "Container",
    "Ldap",
    "Metadata",
    "Pixels",
    "Projection",
    "Query",
    "RenderingSettings",
    "RepositoryInfo",
    "Roi",
    "Script",
    "Session",
    "Share",
    "Timeline",
    "Types",
    "Update",
]
#: ``createX()`` and the interface that it makes.
STATEFUL = {
    "createExporter": "Exporter",
    "createJobHandle": "JobHandle",
    "createRawFileStore": "RawFileStore",
    "createRawPixelsStore": "RawPixelsStore",
    "createRenderingEngine": "RenderingEngine",
    "createSearchService": "Search",
    "createThumbnailStore": "ThumbnailStore",
}


class ServiceFactory(Service):
    """One client's view of a session."""

    interface = omero.api.ServiceFactory
    checks_group = False

    def __init__(self, server: ServerContext, session: Session, client_id: str, control: Any = None) -> None:
        super().__init__(server, session)
        self.control = control
        self.client_id = client_id
        self.callback: Ice.ObjectPrx | None = None
        self._detach = False
        self._own: set[str] = set()

    def publish(self) -> Ice.ObjectPrx:
        """Put the factory on the adapter; returns the proxy that the router hands to the client."""
        self.identity = Ice.Identity(self.session.uuid, f"session-{self.client_id}")
        return self.session.add_servant(servant_of(self), self.identity)

    # -- services -----------------------------------------------------------------------------------------------------
    def getByName(self, call: Call, name: str) -> Ice.ObjectPrx:
        """A stateless service by its interface, or any active one by its identity's name."""
        for known in (name, self.client_id + name):
            service = self.session.service(known)
            if service is not None:
                return self.session.proxy(service)
        return self._make(name, self.client_id + name, stateful=False)

    def createByName(self, call: Call, name: str) -> Ice.ObjectPrx:
        """A new stateful service."""
        return self._make(name, "", stateful=True)

    def _make(self, name: str, identity: str, stateful: bool) -> Ice.ObjectPrx:
        cls = services.find(name)
        if cls is None or cls.stateful != stateful:
            raise errors.api_usage(f"{name} is not implemented by the stand-in OMERO server")
        service = cls(self.server, self.session)
        proxy = self.session.register(service, identity)
        self._own.add(service.identity.name)
        return proxy

    def sharedResources(self, call: Call) -> Ice.ObjectPrx:
        """Tables, processors and repositories."""
        return self.getByName(call, "omero.grid.SharedResources")

    def activeServices(self, call: Call) -> list[str]:
        """Names of what the session holds open."""
        return self.session.active()

    def keepAlive(self, call: Call, proxy: Ice.ObjectPrx | None) -> bool:
        """Whether the service is still there; any call keeps the session itself alive."""
        return proxy is not None and self.session.service(proxy.ice_getIdentity().name) is not None

    def keepAllAlive(self, call: Call, proxies: list[Ice.ObjectPrx]) -> int:
        """A bit for each service that is closed; -1 if the list is empty."""
        if not proxies:
            return -1
        return sum(1 << place for place, proxy in enumerate(proxies) if proxy and not self.keepAlive(call, proxy))

    # -- group and password -------------------------------------------------------------------------------------------
    def getSecurityContexts(self, call: Call) -> list[Any]:
        """The groups that the session may switch to."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            return [tx.load(tx.get("ExperimenterGroup", number)) for number in call.member_of]

    def setSecurityContext(self, call: Call, target: Any) -> Any:
        """Switch the session to another group; returns where it was."""
        if not isinstance(target, omero.model.ExperimenterGroup):
            raise errors.api_usage("Only the change to another group is implemented by the stand-in OMERO server")
        if any(service.stateful for service in self.session.services()):
            raise errors.security("SecurityContext change cancelled:\nStateful services are still open")
        accounts, number = self.server.accounts, target.id.val
        allowed = number in accounts.groups_of(call.user_id) or (call.is_admin and accounts.group_exists(number))
        if not allowed:
            raise errors.security(f"User {call.user_id} is not a member of group {number}")
        before, self.session.group_id = self.session.group_id, number
        return omero.model.ExperimenterGroupI(before, False)

    def setSecurityPassword(self, call: Call, password: str) -> None:
        """Prove that the caller knows the password, as some operations want of a joined session."""
        if not self.server.accounts.check_password(call.user_id, password):
            raise errors.security(f"Bad password for {self.server.accounts.user_name(call.user_id)}")

    # -- commands -----------------------------------------------------------------------------------------------------
    def submit(self, call: Call, request: Any) -> Any:
        """Run a command in the background; returns its handle."""
        from .commands.handle import submit

        return submit(self.server, call, request)

    # -- end of the session -------------------------------------------------------------------------------------------
    def setCallback(self, call: Call, callback: Any) -> None:
        """Store the client's callback; the recorded server never called it at the end of a session."""
        self.callback = callback

    def subscribe(self, call: Call, topic: str, proxy: Any) -> None:
        """Refused: there is no IceStorm behind this server."""
        if not topic.startswith("/public/"):
            raise errors.api_usage('Currently only "/public/" topics allowed.')
        raise errors.not_implemented("omero.api.ServiceFactory", "subscribe")

    def closeOnDestroy(self, call: Call) -> None:
        """End the session with its last client; that is what happens anyway."""
        self._detach = False

    def detachOnDestroy(self, call: Call) -> None:
        """Keep the session when this client disconnects."""
        self._detach = True

    def destroy(self, call: Call) -> None:
        """The client disconnects, or the router found that it is gone."""
        for name in self._own:
            service = self.session.service(name)
            if service is not None:
                self.session.close_service(service)
        if self.control in self.session.controls:
            self.session.controls.remove(self.control)
        self.session.remove_servant(self.identity)
        self.server.sessions.leave(self.session.uuid, end=not self._detach)


def _getter(name: str) -> Callable[..., Ice.ObjectPrx]:
    def get(self: ServiceFactory, call: Call) -> Ice.ObjectPrx:
        return self.getByName(call, name)

    return get


def _maker(name: str) -> Callable[..., Ice.ObjectPrx]:
    def create(self: ServiceFactory, call: Call) -> Ice.ObjectPrx:
        return self.createByName(call, name)

    return create


for _word in STATELESS:
    setattr(ServiceFactory, f"get{_word}Service", _getter(f"omero.api.I{_word}"))
for _operation, _interface in STATEFUL.items():
    setattr(ServiceFactory, _operation, _maker(f"omero.api.{_interface}"))
