"""`omero.grid.SharedResources`: processors for jobs, tables, repositories."""

from __future__ import annotations

import contextlib
from typing import Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.model
from omero.constants.categories import PROCESSCALLBACK, PROCESSORCALLBACK

from omero_stand_in import errors
from omero_stand_in.context import Call, context_of
from omero_stand_in.servant import Service

from . import jobs
from .internal_repository import RepositoryService, repositories
from .processes import InteractiveProcessorService
from .processors import Processors
from .script_files import MIMETYPES, REPOSITORY
from .tables import Tables

LONGEST_DELAY = 180


def acquire(call: Call, job: omero.model.Job, seconds: int) -> InteractiveProcessorService:
    """Save a job and find a processor for it.

    Raises
    ------
    omero.NoProcessorAvailable
        None accepted within ``seconds``; the job's row then has the status Error and the reason.
    """
    if seconds > LONGEST_DELAY:
        raise errors.api_usage("Delay is too long. Maximum = 3 minutes.")
    try:
        saved = jobs.submit(call, job, "Waiting")
    except omero.ApiUsageException as error:
        if isinstance(error, omero.ValidationException):  # a kind of it for Ice, though not for the server
            raise
        raise errors.api_usage("Could not submit job. ") from error
    processor, answers = Processors.of(call.server).offer(call, saved, seconds)
    if processor is None:
        message = f"No processor available! [{answers} response(s)]"
        jobs.change(call, saved.id.val, "Error", message)
        error = omero.NoProcessorAvailable()
        error.message, error.processorCount = message, answers
        error.serverExceptionClass = error.serverStackTrace = ""
        raise error
    from .parameters import Parameters

    script = script_of(call, saved.id.val)
    if script is None:
        raise errors.validation(f"No script for job :{saved.id.val}")
    service = InteractiveProcessorService(call, saved, processor, Parameters.of(call.server).get, script)
    call.session.register(service)
    return service


def script_of(call: Call, job: int) -> int | None:
    """The id of the script that a job is linked to, if it is a script."""
    graph = call.server.graph
    with graph.transaction(context_of(call).as_server()) as tx:
        for link in tx.where("JobOriginalFileLink", parent=job):
            if tx.get("OriginalFile", link.get("child")).get("mimetype") in MIMETYPES.values():
                return int(link.get("child"))
    return None


class SharedResourcesService(Service):
    """What a session may share with others."""

    interface = omero.grid.SharedResources

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._tables: list[Any] = []

    def acquireProcessor(self, call: Call, job: omero.model.Job, seconds: int) -> Any:
        """Find a processor for a job within a time in seconds."""
        service = acquire(call, job, seconds)
        return omero.grid.InteractiveProcessorPrx.uncheckedCast(self.session.proxy(service))

    def addProcessor(self, call: Call, processor: Any) -> None:
        """Offer jobs to a processor from now on, and allow its callbacks."""
        Processors.of(self.server).add(_some(processor))
        for control in list(self.session.controls):
            with contextlib.suppress(Ice.Exception):  # that client has gone
                control.categories().add([PROCESSORCALLBACK, PROCESSCALLBACK])

    def removeProcessor(self, call: Call, processor: Any) -> None:
        """Unsubscribe a processor."""
        Processors.of(self.server).remove(_some(processor))

    def repositories(self, call: Call) -> Any:
        """The folders of the server, as rows and proxies."""
        return repositories(call)

    def getScriptRepository(self, call: Call) -> Any:
        """The folder of official scripts."""
        proxy = call.session.register(RepositoryService(self.server, call.session, REPOSITORY))
        return omero.grid.RepositoryPrx.uncheckedCast(proxy)

    def areTablesEnabled(self, call: Call) -> bool:
        """Whether a Tables server runs in the grid."""
        return Tables(self.server).server() is not None

    def newTable(self, call: Call, repository: int, path: str) -> Any:
        """A new table in a new file of the caller's; ``repository`` is not looked at."""
        return self._registered(Tables(self.server).new(call, path))

    def openTable(self, call: Call, file: Any) -> Any:
        """The table in a file that the caller may read."""
        return self._registered(Tables(self.server).open(call, file))

    def _registered(self, table: Any) -> Any:
        self._tables.append(table)
        return table

    def closed(self) -> None:
        """Close what tables the client has left open."""
        for table in self._tables:
            with contextlib.suppress(omero.ServerError, Ice.Exception):  # closed already, or its server is gone
                table.close()
        self._tables.clear()


def _some(proxy: Any) -> Any:
    """Not null: for a null proxy the real server raises only a general error."""
    if proxy is None:
        error = Ice.UnknownException()
        error.unknown = "java.lang.NullPointerException"
        raise error
    return proxy
