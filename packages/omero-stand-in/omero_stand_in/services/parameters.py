"""The parameters of a script: requested from a processor once, cached until its text changes."""

from __future__ import annotations

import threading
from typing import Any

import omero
import omero.clients
import omero.model
from omero.constants.namespaces import NSDYNAMIC

from omero_stand_in import errors
from omero_stand_in.context import Call, ServerContext, context_of

from .environment import in_java_order
from .script_files import ScriptFiles

#: Seconds that a processor may take to come forward.
PATIENCE = 10
LINE = "---------------------------------"


class Parameters:
    """The parameters of one server's scripts."""

    def __init__(self, server: ServerContext) -> None:
        self.server = server
        self._known: dict[tuple[int, str], Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, server: ServerContext) -> Parameters:
        """The parameters of a server's scripts; there is one such object per server."""
        known = vars(server).get("_parameters")
        return known or vars(server).setdefault("_parameters", cls(server))

    def get(self, call: Call, number: int) -> Any:
        """The parameters of a script; None if the caller sees no such script.

        Raises
        ------
        omero.ValidationException
            It cannot be parsed; the message holds what it printed.
        omero.NoProcessorAvailable
            There is no processor to parse it.
        """
        script = ScriptFiles.of(self.server).script(call, number)
        if script is None:
            return None
        key = (number, script.get("hash") or "")
        with self._lock:
            if key in self._known:
                return self._known[key]
        params = self._parse(call, number)
        params.inputs, params.outputs = in_java_order(params.inputs or {}), in_java_order(params.outputs or {})
        if NSDYNAMIC not in (params.namespaces or ()):
            with self._lock:
                self._known[key] = params
        return params

    def _parse(self, call: Call, number: int) -> Any:
        from .resources import acquire  # a job is acquired with parameters, and these with a job

        job = omero.model.ParseJobI()
        job.linkOriginalFile(omero.model.OriginalFileI(number, False))
        processor = acquire(call, job, PATIENCE)
        parse_job = processor.job.id.val
        try:
            params = processor.params(call)
        finally:
            call.session.unregister(processor)
        if params is None:
            raise errors.validation(self._complaint(call, number, parse_job))
        graph = self.server.graph
        with graph.transaction(context_of(call).as_server()) as tx:
            for link in tx.where("JobOriginalFileLink", parent=parse_job):
                tx.remove(link)
            tx.remove(tx.get("Job", parse_job))
        return params

    def _complaint(self, call: Call, number: int, job: int) -> str:
        """The message about a script that returned no parameters: its output."""
        graph = self.server.graph
        streams = {}
        with graph.transaction(context_of(call).as_server()) as tx:
            for link in tx.where("JobOriginalFileLink", parent=job):
                file = tx.get("OriginalFile", link.get("child"))
                if file.id != number:
                    streams[file.get("name")] = file
        text = f"Can't find params for {number}!\n"
        for name in ("stdout", "stderr"):
            if name in streams:
                content = ScriptFiles.of(self.server).read(streams[name])
                text += f"{name} is in file {streams[name].id}:\n{LINE}\n{content}\n{LINE}\n"
            else:
                text += f"No {name}.\n"
        return text
