"""The handle of one request: it runs in the background, and the client polls it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import Ice
import omero
import omero.clients
import omero.cmd

from omero_stand_in import errors
from omero_stand_in.context import Call, ServerContext, context_of
from omero_stand_in.servant import Service

from . import registry

log = logging.getLogger(__name__)

#: Seconds in which a request that is cancelled has to give up.
CANCEL_LIMIT = 5
#: Enough that long requests of some users do not hold up those of others.
_workers = ThreadPoolExecutor(8, thread_name_prefix="command")


class Handle(Service):
    """Status and response of a request."""

    interface = omero.cmd.Handle
    checks_group = False

    def __init__(self, server: ServerContext, call: Call, request: Any, command: registry.Command) -> None:
        super().__init__(server, call.session)
        self._call, self._request, self._command = call, request, command
        self._response: Any = None
        self._callbacks: dict[Ice.Identity, Any] = {}
        self._lock = threading.Lock()
        self._cancel, self._done = threading.Event(), threading.Event()
        steps = command.steps_of(request)
        self._status = omero.cmd.Status(
            source=None, category="", name="", flags=[], parameters={}, currentStep=0, steps=steps,
            startTime=_now(), stepStartTimes=[], stepStopTimes=[], stopTime=0,
        )  # fmt: skip

    def begin(self) -> None:
        """Queue the request."""
        _workers.submit(self._run)

    def _run(self) -> None:
        response, flags = self._result()
        with self._lock:
            status = self._status
            status.flags, status.stopTime = flags, _now()
            if not (flags and self._cancel.is_set()):
                status.currentStep = max(status.steps - 1, 0)
            self._response = response
            self._done.set()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            self._notify(callback)

    def _result(self) -> tuple[Any, list[Any]]:
        graph, afterwards = self.server.graph, []
        failure = [omero.cmd.State.CANCELLED, omero.cmd.State.FAILURE]
        if self._cancel.is_set():
            return registry.error(self._request, "cancel-called").response, failure
        try:
            with self.server.calls.entered(self._call):
                context = context_of(self._call)
                with graph.transaction(context) if self._command.alone else contextlib.nullcontext() as tx:
                    run = registry.Run(self._call, tx, self._request, afterwards, self._cancel.is_set, self._at)
                    response = self._command.run(run)
                for act in afterwards:
                    act()
            return response, []
        except registry.Failed as failed:
            return failed.response, failure
        except Exception as error:
            message = getattr(error, "message", "") or str(error)
            if not isinstance(error, omero.ServerError):
                log.exception("request %s", type(self._request).__name__)
            trace = f"{getattr(error, 'serverExceptionClass', '') or type(error).__name__}: {message}"
            return registry.error(self._request, "run-fail", message, trace).response, failure

    # -- the interface for clients ------------------------------------------------------------------------------------
    def getRequest(self, call: Call) -> Any:
        """The request as it was submitted."""
        return self._request

    def getResponse(self, call: Call) -> Any:
        """The response, null until there is one."""
        return self._response

    def getStatus(self, call: Call) -> Any:
        """How far it is."""
        return self._status

    def cancel(self, call: Call) -> bool:
        """Whether the request was not run to its end: it is given up before its next step, if it has any."""
        with self._lock:
            if self._response is not None:
                return bool(self._status.flags)
            self._cancel.set()
        if not self._done.wait(CANCEL_LIMIT):
            self._cancel.clear()
            raise errors.lock_timeout("timed out while waiting on CANCELLED state")
        return bool(self._status.flags)

    def _at(self, step: int) -> None:
        self._status.currentStep = step

    def addCallback(self, call: Call, callback: Any) -> None:
        """Register a callback for the end; it is called at once if the request has ended."""
        if callback is None:
            return
        with self._lock:
            self._callbacks[callback.ice_getIdentity()] = callback
            done = self._response is not None
        if done:
            _workers.submit(self._notify, callback)

    def removeCallback(self, call: Call, callback: Any) -> None:
        """Remove a callback that was registered before."""
        with self._lock:
            self._callbacks.pop(callback.ice_getIdentity(), None)

    def _notify(self, callback: Any) -> None:
        try:
            callback.ice_oneway().finished(self._response, self._status)
        except Exception as error:  # the client polls as well
            log.debug("callback not reached: %s", error)

    def close(self, call: Call) -> None:
        """Forget the request."""
        self.session.close_service(self)


def submit(server: ServerContext, call: Call, request: Any) -> Any:
    """The handle's proxy; null for a request that the server does not know."""
    command = registry.find(request)
    if command is None:
        if request is not None:
            log.warning("refused: request %s", type(request).__name__)
        return None
    handle = Handle(server, call, request, command)
    proxy = call.session.register(handle)
    handle.begin()
    return proxy


def _now() -> int:
    return int(time.time() * 1000)
