"""Open sessions for the user of a run, also hours after that user closed the browser.

The script that accepted the run may have ended, and its session too; the event log has no secrets. So the supervisor
opens a session through a `SessionProvider` each time it needs OMERO. There are two: a login with a password (an
administrator or a group owner opens a session *as* the run's user, in the run's group, so that all new objects belong
to that user), and OMERO.grid, whose members get an internal session without a password.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

import Ice
import omero
import omero.clients
import omero.sys
import omero.util

from biomeroworker.errors import Blocked, ConfigError, Transient
from biomeroworker.omero.connection.errors import server_message, translate_errors
from biomeroworker.omero.connection.session import OmeroSession, ice_timeouts, parameters

#: Milliseconds after which the server closes an unused session of a run.
IDLE_TIMEOUT_MS = 30 * 60 * 1000
#: In place of a user (or group) id: the user (or group) of the login.
ANY_USER = -1


class SessionProvider(Protocol):
    """Opens sessions for the users of runs."""

    def open(self, user: int, group: int) -> OmeroSession:
        """A session of user ``user`` in group ``group`` (ids; -1: the login's own). The caller closes it."""
        ...


class PasswordProvider:
    """Logs in with a name and password; opens sessions for others if the login may (administrator, group owner)."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._host, self._port, self._user, self._password = host, port, user, password

    def __repr__(self) -> str:
        return f"PasswordProvider({self._host}:{self._port} as {self._user})"

    def open(self, user: int, group: int) -> OmeroSession:
        own = OmeroSession.login(self._host, self._port, self._user, self._password)
        try:
            if user in (ANY_USER, own.user_id):
                if group != ANY_USER:
                    own.enter_group(group)
                return own
            try:
                return session_for(own.sf, self._host, self._port, user, group)
            finally:
                own.close()
        except BaseException:
            own.close()
            raise


class GridProvider:
    """Gets internal sessions as a member of OMERO.grid: the server trusts the processes of its grid.

    Parameters
    ----------
    communicator
        An Ice communicator with the grid's locator (``Ice.Default.Locator``); destroyed with the provider.
    host, port
        Where clients log in: the session of a user is joined there.
    """

    def __init__(self, communicator: Any, host: str, port: int) -> None:
        self._communicator, self._host, self._port = communicator, host, port
        self._stop = threading.Event()
        weakref.finalize(self, communicator.destroy)

    def __repr__(self) -> str:
        return f"GridProvider({self._host}:{self._port})"

    @classmethod
    def at(cls, locator: str, host: str, port: int) -> GridProvider:
        """A provider for the grid of a locator, such as ``IceGrid/Locator:tcp -h omero -p 4061``."""
        settings = Ice.InitializationData()
        settings.properties = Ice.createProperties()
        settings.properties.setProperty("Ice.Default.Locator", locator)
        settings.properties.setProperty("Ice.ImplicitContext", "Shared")
        for name, value in ice_timeouts().items():
            settings.properties.setProperty(name, value)
        settings.properties.setProperty("Ice.MessageSizeMax", "250000")
        communicator = Ice.initialize(settings)
        for factory in omero.rtypes.ObjectFactories.values():
            factory.register(communicator)
        omero.util.ofr.registerObjectFactory(communicator, None)
        return cls(communicator, host, port)

    def open(self, user: int, group: int) -> OmeroSession:
        with translate_errors("get an internal session from OMERO.grid"):
            internal = omero.util.internal_service_factory(
                self._communicator, retries=1, interval=0, stop_event=self._stop
            )
            if internal is None:
                raise Transient("OMERO.grid gave no internal session")
        try:
            if user == ANY_USER:
                user = internal.getAdminService().getEventContext().userId
            return session_for(internal, self._host, self._port, user, group)
        finally:
            with contextlib.suppress(Ice.Exception):
                internal.destroy()


def open_for(sf: Any, user: int, group: int) -> str:
    """Open a session as another user, with the rights of the session ``sf``; returns its uuid, which is a secret."""
    with translate_errors(f"open a session for user {user} in group {group}"):
        query = sf.getQueryService()
        everywhere = {"omero.group": "-1"}
        account = query.findByQuery(
            "select e from Experimenter e where e.id = :id", parameters({"id": user}), everywhere
        )
        if account is None:
            raise Blocked(f"OMERO has no user {user} any more", hint="the owner of the run was deleted")
        principal = omero.sys.Principal(name=account.omeName.val, group=None, eventType="User")
        if group != ANY_USER:
            found = query.findByQuery(
                "select g from ExperimenterGroup g where g.id = :id", parameters({"id": group}), everywhere
            )
            if found is None:
                raise Blocked(f"OMERO has no group {group} any more", hint="the group of the run was deleted")
            principal.group = found.name.val
        try:
            opened = sf.getSessionService().createSessionWithTimeouts(principal, 0, IDLE_TIMEOUT_MS)
        except omero.SecurityViolation as refused:
            me = sf.getAdminService().getEventContext().userName
            raise Blocked(
                f"OMERO does not allow {me} to act as {principal.name}: {server_message(refused)}",
                hint=f"make {me} an administrator with the privilege Sudo (and no other privilege)",
            ) from refused
        uuid: str = opened.uuid.val
        return uuid


def session_for(sf: Any, host: str, port: int, user: int, group: int) -> OmeroSession:
    """Open a session as another user, with the rights of the session ``sf``, and join it."""
    uuid = open_for(sf, user, group)
    try:
        return OmeroSession.join(host, port, uuid, end=True)
    except Blocked as refused:  # OMERO creates the session of a user who is not in the group, but refuses the login
        if lost := _lost_membership(sf, user, group):
            raise Blocked(lost, hint="add the user to the group again, or start the run in another group") from refused
        raise


def _lost_membership(sf: Any, user: int, group: int) -> str:
    """That a user is not a member of a group, as a message; empty if the user is."""

    def rows(hql: str, **ids: int) -> list[str]:
        found = sf.getQueryService().projection(hql, parameters(ids), {"omero.group": "-1"})
        return [str(row[0].val) for row in found]

    with translate_errors(f"read the groups of user {user}"):
        membership = "select m.id from GroupExperimenterMap m where m.child.id = :user and m.parent.id = :group"
        if rows(membership, user=user, group=group):
            return ""
        names = rows("select e.omeName from Experimenter e where e.id = :user", user=user)
        groups = rows("select g.name from ExperimenterGroup g where g.id = :group", group=group)
    return f"{', '.join(names)} is not a member of the group {', '.join(groups)} any more" if names and groups else ""


def provider_from_environment(environment: Mapping[str, str] | None = None) -> SessionProvider:
    """The provider that the environment describes.

    ``OMERO_HOST`` (default localhost) and ``OMERO_PORT`` (default 4064) are the address. With ``OMERO_PASSWORD`` it
    logs in as ``OMERO_USER``; without, ``OMERO_LOCATOR``, or ``Ice.Default.Locator`` in the files that ``ICE_CONFIG``
    names, is the locator of OMERO.grid.
    """
    given = os.environ if environment is None else environment
    host = given.get("OMERO_HOST") or "localhost"
    try:
        port = int(given.get("OMERO_PORT") or 4064)
    except ValueError:
        raise ConfigError(f"OMERO_PORT={given['OMERO_PORT']!r} is not a port number") from None
    if given.get("OMERO_PASSWORD"):
        return PasswordProvider(host, port, given.get("OMERO_USER") or "root", given["OMERO_PASSWORD"])
    locator = given.get("OMERO_LOCATOR") or _locator_of(given.get("ICE_CONFIG", ""))
    if locator:
        return GridProvider.at(locator, host, port)
    raise ConfigError(
        "no login for OMERO: set OMERO_USER and OMERO_PASSWORD (of an administrator, to act for every user), "
        "or OMERO_LOCATOR if this host belongs to OMERO.grid"
    )


def _locator_of(files: str) -> str:
    for name in filter(None, files.split(",")):
        properties = Ice.createProperties()
        with contextlib.suppress(Ice.Exception):
            properties.load(name)
            if locator := properties.getProperty("Ice.Default.Locator"):
                return str(locator)
    return ""
