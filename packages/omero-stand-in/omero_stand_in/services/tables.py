"""Tables: found and opened in omero-py's real Tables server, which is a server of the grid like this one."""

from __future__ import annotations

import logging
import time
from typing import Any

import Ice
import IceGrid
import omero
import omero.clients
import omero.grid
import omero.model
from omero.rtypes import rstring, rtime

from omero_stand_in import errors
from omero_stand_in.context import Call, ServerContext, context_of

from .processes import let_through

log = logging.getLogger(__name__)
MIMETYPE = "OMERO.tables"


def grid_objects(server: ServerContext, kind: str) -> list[Any]:
    """Proxies of what IceGrid's registry knows of a type; none if this server is not in a grid."""
    locator = server.communicator.getDefaultLocator()
    if locator is None:
        return []
    try:
        query = IceGrid.QueryPrx.checkedCast(server.communicator.stringToProxy("IceGrid/Query"))
        return list(query.findAllObjectsByType(kind))
    except Ice.Exception as error:
        log.warning("the registry does not answer: %s", error)
        return []


class Tables:
    """Tables in files of the server."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server

    def server(self) -> Any:
        """The first Tables server of the grid that answers, or None."""
        for proxy in grid_objects(self._server, "::omero::grid::Tables"):
            try:
                proxy.ice_ping()
                return omero.grid.TablesPrx.uncheckedCast(proxy)
            except Ice.Exception as error:
                log.info("%s does not answer: %s", proxy, error)
        return None

    def new(self, call: Call, path: str) -> Any:
        """A new table in a new file of the caller's."""
        file = omero.model.OriginalFileI()
        file.setName(rstring(path))
        file.setPath(rstring(path))
        file.setMimetype(rstring(MIMETYPE))
        made = rtime(int(time.time() * 1000))
        file.setAtime(made)
        file.setMtime(made)
        file.setCtime(made)
        with self._server.graph.transaction(context_of(call)) as tx:
            file = tx.save(file)
        return self._open(call, file)

    def open(self, call: Call, file: Any) -> Any:
        """The table in a file that the caller may read."""
        if file is None or file.id is None:
            raise errors.validation("file must be a managed instance.")
        with self._server.graph.transaction(context_of(call)) as tx:
            file = tx.load(tx.get("OriginalFile", file.id.val))
        return self._open(call, file)

    def _open(self, call: Call, file: Any) -> Any:
        table = None
        server = self.server()
        if server is not None:
            try:
                table = server.getTable(file, _factory(call), {"omero.group": "-1"})
            except (omero.ServerError, Ice.Exception) as error:
                log.warning("no table in file %s: %s", file.id.val, getattr(error, "message", error))
        if table is None:  # the real server has the same message for every reason
            raise errors.internal("null table as argument")
        let_through(call.session, table)
        return table


def _factory(call: Call) -> Any:
    """The factory of the client that called, as a server of the grid reaches it."""
    name = call.current.id.name if call.current else ""
    client = name.removesuffix("omero.grid.SharedResources")
    identity = Ice.Identity(call.session.uuid, f"session-{client}")
    return omero.api.ServiceFactoryPrx.uncheckedCast(call.server.adapter.createProxy(identity))
