"""`omero.grid.SharedResources`: processors for jobs, tables, repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.model

from sandbox.omero import errors
from sandbox.omero.graph.calls import context_of
from sandbox.omero.servant import Service

from . import jobs
from .internal_repository import repositories
from .processes import InteractiveProcessorService
from .processors import Processors
from .tables import Tables

if TYPE_CHECKING:
    from sandbox.omero.call import Call

LONGEST_DELAY = 180


def acquire(call: Call, job: omero.model.Job, seconds: int) -> InteractiveProcessorService:
    """Save a job and find a processor for it.

    Raises
    ------
    omero.NoProcessorAvailable
        None accepted within ``seconds``; the job's row then says Error and why.
    """
    if seconds > LONGEST_DELAY:
        raise errors.api_usage("Delay is too long. Maximum = 3 minutes.")
    saved = jobs.submit(call, job, "Waiting")
    processor, answers = Processors.of(call.server).ask(call, saved, seconds)
    if processor is None:
        message = f"No processor available! [{answers} response(s)]"
        jobs.change(call, saved.id.val, "Error", message)
        error = omero.NoProcessorAvailable()
        error.message, error.processorCount = message, answers
        error.serverExceptionClass = error.serverStackTrace = ""
        raise error
    from .parameters import Parameters

    service = InteractiveProcessorService(
        call, saved, processor, Parameters.of(call.server).get, script_of(call, saved.id.val)
    )
    call.session.register(service)
    return service


def script_of(call: Call, job: int) -> int:
    """The id of the script that a job is linked to, -1 if there is none."""
    graph = call.server.graph
    with graph.transaction(context_of(call).as_server()) as tx:
        links = tx.where("JobOriginalFileLink", parent=job)
        return int(links[0].get("child")) if links else -1


class SharedResourcesService(Service):
    """What a session may share with others."""

    interface = omero.grid.SharedResources

    def acquireProcessor(self, call: Call, job: omero.model.Job, seconds: int) -> Any:
        """Find a processor for a job within a time in seconds."""
        service = acquire(call, job, seconds)
        return omero.grid.InteractiveProcessorPrx.uncheckedCast(self.session.proxy(service))

    def addProcessor(self, call: Call, processor: Any) -> None:
        """Subscribe a processor to the questions about jobs."""
        Processors.of(self.server).add(_some(processor))

    def removeProcessor(self, call: Call, processor: Any) -> None:
        """Unsubscribe a processor."""
        Processors.of(self.server).remove(_some(processor))

    def repositories(self, call: Call) -> Any:
        """The folders of the server, as rows and proxies."""
        return repositories(call)

    def areTablesEnabled(self, call: Call) -> bool:
        """Whether a Tables server runs in the grid."""
        return Tables(self.server).server() is not None

    def newTable(self, call: Call, repository: int, path: str) -> Any:
        """A new table in a new file of the caller's; ``repository`` is not looked at."""
        return Tables(self.server).new(call, path)

    def openTable(self, call: Call, file: Any) -> Any:
        """The table in a file that the caller may read."""
        return Tables(self.server).open(call, file)


def _some(proxy: Any) -> Any:
    """Not null: of a null proxy the real server tells no more than that something went wrong."""
    if proxy is None:
        error = Ice.UnknownException()
        error.unknown = "java.lang.NullPointerException"
        raise error
    return proxy
