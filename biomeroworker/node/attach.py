"""Serve the scripts of a running OMERO server from outside its grid: ``biomeroworker attach``.

A user-mode Processor uses an ordinary session through Glacier2; the server's grid is not changed. It serves the scripts
of the user who logs in; that of an administrator also serves official scripts, for all users. When the session or the
connection is lost, it logs in again. When it stops, it unregisters from the server.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import Ice
import omero
import omero.clients
import omero.model
import omero.rtypes
import omero.util

from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.errors import Blocked, Fault
from biomeroworker.node.processor import Processor, new_identity
from biomeroworker.omero.connection.session import OmeroSession

log = logging.getLogger(__name__)

#: Time between two checks of the session.
CHECK_INTERVAL_SECONDS = 10.0
#: Delay before the first retry of a login, and the longest delay before a later one.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 60.0


class Attached:
    """A Processor in a session. Takes ownership of the session."""

    def __init__(self, session: OmeroSession) -> None:
        self.session = session
        client = session.client
        self._stop = omero.util.concurrency.get_event(name="biomeroworker")
        context = omero.util.ServerContext("biomeroworker", client.ic, self._stop)
        self.processor = Processor(
            context,
            use_session=client.sf,
            accepts_list=accepted(session),
            category=client.getCategory(),
        )
        try:
            # add_servant calls setProxy, in which the Processor registers with the server
            context.add_servant(client.adapter, self.processor, new_identity("BiomeroWorker", client.getCategory()))
        except BaseException:
            self.processor.cleanup()
            raise

    def alive(self) -> bool:
        """Whether the session still exists on the server."""
        try:
            self.session.sf.keepAlive(None)
        except (Ice.Exception, omero.ServerError):
            return False
        return True

    def close(self) -> None:
        """Stop the Processor and its scripts (`Processor.cleanup`), and log out."""
        self.processor.cleanup()
        self.session.close()


def accepted(session: OmeroSession) -> list[Any]:
    """The users whose own scripts are served. A server gives official scripts to Processors of administrators only."""
    return [omero.model.ExperimenterI(session.user_id, False)]


def serve(
    login: Callable[[], OmeroSession],
    stop: threading.Event,
    *,
    ready: Callable[[OmeroSession], None] = lambda session: None,
) -> None:
    """Serve until ``stop`` is set; log in again when the session is lost.

    Parameters
    ----------
    login
        Opens a session. `Blocked` (such as a wrong password) ends the service; other errors are retried.
    ready
        Called each time that the Processor has been registered with the server.
    """
    failures = 0
    while not stop.is_set():
        try:
            session = login()
            try:
                attached = Attached(session)
            except BaseException:
                session.close()
                raise
        except Blocked:
            raise
        except (Fault, Ice.Exception, omero.ServerError, omero.ClientError) as error:
            failures += 1
            delay = backoff_delay(failures, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS)
            log.warning("cannot register a Processor with OMERO (%s); next attempt in %.0f s", error, delay)
            stop.wait(delay)
            continue
        failures = 0
        try:
            ready(session)
            while not stop.wait(CHECK_INTERVAL_SECONDS) and attached.alive():
                pass
            if not stop.is_set():
                log.warning("the OMERO session was lost; logging in again")
        finally:
            attached.close()
