"""How services are written: plain classes with plain methods, one servant that dispatches to them.

OMERO declares its operations for asynchronous dispatch: Ice calls ``operation_async(cb, ...)`` and a plain method of
that name is never called, so that a client of a forgotten operation hangs.  Here every operation that the Slice
interface declares gets both forms; those that the service does not define are refused by name.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import Ice

from . import errors
from .context import Call, ServerContext, SessionContext

log = logging.getLogger(__name__)
_ICE_OWN = {"ice_isA", "ice_ping", "ice_ids", "ice_id"}


class Results(tuple):
    """Several values of one operation: the result and its out parameters, ``Results((a, b))``."""


class Service:
    """One service of one session.

    Subclasses set ``interface`` (the generated Slice class) and define methods named like its operations; each gets a
    `Call` before the operation's own arguments.
    """

    interface: type
    #: Stateful services are created by each ``createXxx`` and closed with the session.
    stateful = False
    #: Whether the caller's group is checked against its memberships before the operation.
    checks_group = True

    def __init__(self, server: ServerContext, session: SessionContext) -> None:
        self.server, self.session = server, session
        self.identity: Ice.Identity | None = None

    def closed(self) -> None:
        """Called once when the service goes, by ``close`` or with its session: the place to release things."""

    def close(self, call: Call) -> None:
        """`StatefulServiceInterface.close`: release, then take the servant away."""
        if not self.stateful:
            raise errors.not_implemented(self.interface.ice_staticId(), "close")
        self.session.close_service(self)

    def getCurrentEventContext(self, call: Call) -> Any:
        """`StatefulServiceInterface.getCurrentEventContext`."""
        return self.session.event_context(call)

    def activate(self, call: Call) -> None:
        """`StatefulServiceInterface.activate`: nothing here is ever passivated."""

    def passivate(self, call: Call) -> None:
        """`StatefulServiceInterface.passivate`: nothing here is ever passivated."""


def operations(interface: type) -> set[str]:
    """Names of the operations that a generated Slice class declares, inherited ones included."""
    found = {name[4:] for base in interface.__mro__ for name in vars(base) if name.startswith("_op_")}
    return found - _ICE_OWN


def typed(interface: type, proxy: Ice.ObjectPrx) -> Ice.ObjectPrx:
    """The proxy as one of the interface, which is what Ice wants of a result."""
    return getattr(sys.modules[interface.__module__], interface.__name__ + "Prx").uncheckedCast(proxy)


_servants: dict[type, type] = {}


def servant_of(service: Service) -> Ice.Object:
    """The Ice servant that dispatches to a service."""
    interface = service.interface
    if interface not in _servants:
        members: dict[str, Any] = {"__init__": _keep_service, "ice_ping": _ping}
        for name in operations(interface):
            members[name], members[name + "_async"] = _plain(name), _asynchronous(name)
        _servants[interface] = type(f"{interface.__name__}Servant", (interface,), members)
    return _servants[interface](service)


def _keep_service(self: Any, service: Service) -> None:
    self.service = service


def _ping(self: Any, current: Ice.Current | None = None) -> None:
    return None


def _plain(name: str) -> Any:
    def dispatch(self: Any, *arguments: Any) -> Any:
        return _answer(self.service, name, arguments[:-1], arguments[-1])

    return dispatch


def _asynchronous(name: str) -> Any:
    def dispatch(self: Any, cb: Any, *arguments: Any) -> None:
        try:
            result = _answer(self.service, name, arguments[:-1], arguments[-1])
        except Exception as error:
            cb.ice_exception(error)
            return
        if isinstance(result, Results):
            cb.ice_response(*result)
            return
        try:
            cb.ice_response(result)
        except Exception as error:  # a result that cannot be marshalled
            cb.ice_exception(as_server_error(error))

    return dispatch


def _answer(service: Service, name: str, arguments: tuple[Any, ...], current: Ice.Current) -> Any:
    method = getattr(service, name, None)
    interface = service.interface.ice_staticId().replace("::", ".").strip(".")
    if method is None:
        log.warning("refused: %s.%s", interface, name)
        raise errors.not_implemented(interface, name)
    try:
        with service.server.calls.enter(service, current) as call:
            return method(call, *arguments)
    except Exception as error:
        raise as_server_error(error, f"{interface}.{name}") from error


def as_server_error(error: Exception, where: str = "") -> Exception:
    """The exception itself if Ice can send it, else an InternalException with its message."""
    if isinstance(error, (Ice.UserException, Ice.Exception)):
        return error
    log.error("fault in %s\n%s", where, "".join(traceback.format_exception(*sys.exc_info())))
    return errors.internal(f"{type(error).__name__}: {error}", "java.lang.RuntimeException")
