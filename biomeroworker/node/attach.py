"""Serve scripts on an OMERO that runs already: ``biomeroworker attach``.

A user-mode Processor lives in an ordinary session, through Glacier2; the server's own grid is not touched. It serves
the scripts of the user who logs in; an administrator's serves official scripts too, for everybody. It comes back by
itself when the server or the connection was gone, and takes itself off the server's list when it stops.
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
from biomeroworker.node.processor import Processor, fresh
from biomeroworker.omero.connection.session import OmeroSession

log = logging.getLogger(__name__)

#: Seconds between two looks whether the session still lives.
CHECK = 10.0
#: Seconds before the first retry of a login, and before a later one at most.
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 2.0, 60.0


class Attached:
    """One Processor in one session."""

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
            # the servant hears of its proxy, and registers with the server, in add_servant
            context.add_servant(client.adapter, self.processor, fresh("BiomeroWorker", client.getCategory()))
        except BaseException:
            self.processor.cleanup()
            raise

    def alive(self) -> bool:
        """Whether the server still knows the session."""
        try:
            self.session.sf.keepAlive(None)
        except (Ice.Exception, omero.ServerError):
            return False
        return True

    def close(self) -> None:
        """Take it off the server's list, tell its scripts, log out."""
        self.processor.cleanup()
        self.session.close()


def accepted(session: OmeroSession) -> list[Any]:
    """Whose scripts are served besides official ones (which a server takes from administrators' processors only)."""
    return [omero.model.ExperimenterI(session.user_id, False)]


def serve(
    login: Callable[[], OmeroSession],
    stop: threading.Event,
    *,
    ready: Callable[[OmeroSession], None] = lambda session: None,
) -> None:
    """Serve until ``stop`` is set; log in again whenever the session is lost.

    Parameters
    ----------
    login
        Opens a session. What it raises as `Blocked` (a wrong password) ends the service; anything else is tried again.
    ready
        Hears each time that the Processor is on the server's list.
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
            log.warning("OMERO cannot be served now (%s); next try in %.0f s", error, delay)
            stop.wait(delay)
            continue
        failures = 0
        try:
            ready(session)
            while not stop.wait(CHECK) and attached.alive():
                pass
            if not stop.is_set():
                log.warning("the session is gone; logging in again")
        finally:
            attached.close()
