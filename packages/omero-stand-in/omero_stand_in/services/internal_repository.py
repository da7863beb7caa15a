"""The server's folders as other servers of the grid see them.

omero-py's Tables server needs the path of a table's file; everything else is refused.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from typing import Any

import Ice
import IceGrid
import omero
import omero.clients
import omero.grid
import omero.model
import omero.util

from omero_stand_in import errors
from omero_stand_in.context import Call, ServerContext
from omero_stand_in.servant import Service, servant_of
from omero_stand_in.sessions import Session

from .script_files import REPOSITORY, ScriptFiles

log = logging.getLogger(__name__)
MIMETYPE = "Repository"


class InternalRepository(omero.grid.InternalRepository):
    """One folder of the server."""

    def __init__(self, server: ServerContext, repository: str, public: Ice.ObjectPrx) -> None:
        self.server, self.repository = server, repository
        self.public = omero.grid.RepositoryPrx.uncheckedCast(public)

    def getFilePath(self, file: Any, current: Ice.Current | None = None) -> str:
        """Where a file lies on disk."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            entity = tx.get("OriginalFile", file.id.val)
        return str(ScriptFiles.of(self.server).place(entity))

    def getProxy(self, current: Ice.Current | None = None) -> Any:
        """The repository as clients see it."""
        return self.public

    def getDescription(self, current: Ice.Current | None = None) -> Any:
        """The row that stands for the repository."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            return tx.load(row_of(tx, self.repository))

    def createRawFileStore(self, file: Any, current: Ice.Current | None = None) -> Any:
        """Refused."""
        raise errors.not_implemented("omero.grid.InternalRepository", "createRawFileStore")

    def createRawPixelsStore(self, file: Any, current: Ice.Current | None = None) -> Any:
        """Refused."""
        raise errors.not_implemented("omero.grid.InternalRepository", "createRawPixelsStore")

    def createRenderingEngine(self, file: Any, current: Ice.Current | None = None) -> Any:
        """Refused."""
        raise errors.not_implemented("omero.grid.InternalRepository", "createRenderingEngine")

    def createThumbnailStore(self, file: Any, current: Ice.Current | None = None) -> Any:
        """Refused."""
        raise errors.not_implemented("omero.grid.InternalRepository", "createThumbnailStore")

    def rawAccess(self, request: Any, current: Ice.Current | None = None) -> Any:
        """Refused."""
        raise errors.not_implemented("omero.grid.InternalRepository", "rawAccess")


class RepositoryService(Service):
    """`omero.grid.Repository`: one folder as clients see it; no more than what it is."""

    interface = omero.grid.Repository

    def __init__(self, server: ServerContext, session: Session, repository: str) -> None:
        super().__init__(server, session)
        self.repository = repository

    def root(self, call: Call) -> Any:
        """The row that stands for the repository."""
        graph = self.server.graph
        with graph.transaction(graph.server()) as tx:
            return tx.load(row_of(tx, self.repository))


def repositories(call: Call) -> Any:
    """Rows and proxies of all repositories, for `SharedResources.repositories`."""
    graph = call.server.graph
    answer = omero.grid.RepositoryMap([], [])
    for repository in (uuid_of_data(call.server), REPOSITORY):
        with graph.transaction(graph.server()) as tx:
            answer.descriptions.append(tx.load(row_of(tx, repository)))
        proxy = call.session.register(RepositoryService(call.server, call.session, repository))
        answer.proxies.append(omero.grid.RepositoryPrx.uncheckedCast(proxy))
    return answer


def row_of(tx: Any, repository: str) -> Any:
    """The row that stands for a repository: a file whose hash is the repository's uuid."""
    found = tx.where("OriginalFile", mimetype=MIMETYPE, hash=repository)
    return found[0] if found else None


def uuid_of_data(server: ServerContext) -> str:
    """The uuid of the data folder's repository, created at the first use and stored in the folder."""
    file = server.data / ".omero" / "repository" / server.config.database_uuid / "repo_uuid"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = str(uuid.uuid4())
        # written as Java's writeUTF does: two bytes of length, then the text
        file.write_bytes(len(made).to_bytes(2, "big") + made.encode() + b"\n")
    return file.read_bytes()[2:].strip().decode()


def publish(server: ServerContext) -> None:
    """Offer the repositories of data and of scripts, and add them to the grid's registry if there is one."""
    data = uuid_of_data(server)
    scripts = ScriptFiles.of(server).folder
    graph = server.graph
    with graph.transaction(graph.server()) as tx:
        for repository, folder in ((data, server.data), (REPOSITORY, scripts)):
            if row_of(tx, repository) is None:
                path, name = f"{folder.parent}/", folder.name
                tx.insert("OriginalFile", owner=0, group=1, path=path, name=name, mimetype=MIMETYPE, hash=repository)
    for repository in (data, REPOSITORY):
        identity = Ice.Identity(f"InternalRepository-{repository}", "")
        service = RepositoryService(server, server.root_call().session, repository)
        public = server.adapter.add(servant_of(service), Ice.Identity(f"PublicRepository-{repository}", ""))
        proxy = server.adapter.add(InternalRepository(server, repository, public), identity)
        register_in_grid(server, proxy, "::omero::grid::InternalRepository")


def register_in_grid(server: ServerContext, proxy: Ice.ObjectPrx, kind: str) -> None:
    """Make an object of this server known to the grid's registry by its identity and type."""
    if server.communicator.getDefaultLocator() is None:
        return
    registry = IceGrid.RegistryPrx.checkedCast(server.communicator.stringToProxy("IceGrid/Registry"))
    session = registry.createAdminSession("null", "")
    try:
        admin = session.getAdmin()
        try:
            admin.addObjectWithType(proxy, kind)
        except IceGrid.ObjectExistsException:
            admin.updateObject(proxy)
    finally:
        with contextlib.suppress(Ice.ObjectNotExistException):  # the registry may have ended it already
            session.destroy()
