"""A job in the hands of a processor: its session, its parameters, its process, its results."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.model
from omero.constants.categories import PROCESSCALLBACK
from omero.rtypes import rmap, robject

from omero_stand_in import errors
from omero_stand_in.context import Call, context_of
from omero_stand_in.servant import Service, servant_of
from omero_stand_in.sessions import Session

from . import environment, jobs

#: Milliseconds that the session of a job may live.
TIME_TO_LIVE = 3_600_000
#: What a node's processor needs besides the caller's context: the interpreter and the class of the process.
LAUNCH = {"omero.launcher": "", "omero.process": "omero.processor.ProcessI"}
#: Seconds that getResults may wait.
LONGEST_WAIT = 5


def call_node(method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a processor; OMERO's own exceptions pass unchanged, every other becomes an InternalException."""
    try:
        return method(*arguments)
    except omero.ServerError:
        raise
    except Ice.Exception as error:
        raise errors.internal("", f"{type(error).__module__}.{type(error).__name__}") from error


def let_through(session: Session, proxy: Ice.ObjectPrx) -> None:
    """Let the session's clients reach an object that is not the session's own, such as a node's process."""
    for control in list(session.controls):
        with contextlib.suppress(Ice.Exception):  # that client has gone
            control.identities().add([proxy.ice_getIdentity()])


class InteractiveProcessorService(Service):
    """`omero.grid.InteractiveProcessor`: a job for which a processor has been found."""

    interface = omero.grid.InteractiveProcessor

    def __init__(
        self, call: Call, job: omero.model.Job, processor: Any, params_of: Callable[[Call, int], Any], script_id: int
    ) -> None:
        super().__init__(call.server, call.session)
        self.job, self.processor = job, processor
        self._params_of, self._script_id = params_of, script_id
        self._lock = threading.RLock()
        self._detach = self._stopped = self._unfetched = False
        self._params: Any = None
        self._process: Any = None
        self._session: Session | None = None
        self._expires = TIME_TO_LIVE

    def _working_session(self, call: Call) -> Session:
        """The session in which the job runs: the caller's own rights, a life of its own."""
        if self._session is None:
            group = call.session.group_id if call.group_id < 0 else call.group_id
            self._session = self.server.sessions.create(
                call.user_id, group, event_type="Processing", agent="OMERO.scripts"
            )
            self._session.on_join = _SecondJoin()
            self._expires = jobs.now() + TIME_TO_LIVE
        return self._session

    def _check_not_stopped(self) -> None:
        if self._stopped:
            raise errors.api_usage("This processor is stopped.")

    def expires(self, call: Call) -> int:
        """When the job's session ends at the latest, in milliseconds since 1970."""
        return self._expires

    def getJob(self, call: Call) -> omero.model.Job:
        """The job as it was when the processor was found."""
        return self.job

    def params(self, call: Call) -> Any:
        """The script's parameters: requested from the processor for a ParseJob, else the known ones."""
        with self._lock:
            self._check_not_stopped()
            session = self._working_session(call)
            if self._params is None:
                if isinstance(self.job, omero.model.ParseJob):
                    context = {**call.context, **LAUNCH}
                    self._params = call_node(self.processor.parseJob, session.uuid, self.job, context)
                else:
                    self._params = self._params_of(call, self._script_id)
            return self._params

    def execute(self, call: Call, inputs: omero.RMap | None) -> Any:
        """Start the job's script; answers the proxy of its process."""
        with self._lock:
            if self._process is not None:
                raise errors.api_usage("Process currently running.")
            if self._unfetched:
                raise errors.api_usage("Please retrieve results.")
            self._check_not_stopped()
            session = self._working_session(call)
            for name, value in ((inputs.val if inputs else None) or {}).items():
                environment.put(session.inputs, name, value)
            params = self.params(call)
            context = {**call.context, **LAUNCH}
            try:
                process = call_node(self.processor.processJob, session.uuid, params, self.job, context)
            except omero.ValidationException as error:
                message = (error.message or "")[: jobs.LONGEST_MESSAGE]
                jobs.change(call, self.job.id.val, "Error", message)
                raise
            if process is not None:
                self._process, self._unfetched = process, True
                let_through(call.session, process)
            return process

    def getResults(self, call: Call, process: Any) -> omero.RMap:
        """The outputs of the job's session, and the files of its streams; once per run."""
        with self._lock:
            if self._process is None:
                raise errors.api_usage("No current process.")
            if self._process.poll() is None:
                raise errors.api_usage("Process still running.")
            session = self._session
            assert session is not None
            results = environment.all_of(session.outputs)
            for name in ("stdout", "stderr"):
                number = self._stream(call, name)
                if number is not None:
                    results[name] = robject(omero.model.OriginalFileI(number, False))
            self._process, self._unfetched = None, False
            return rmap(environment.in_java_order(results))

    def _stream(self, call: Call, name: str) -> int | None:
        """The id of the file in which the processor left a stream."""
        graph = self.server.graph
        with graph.transaction(context_of(call).as_server()) as tx:
            for link in tx.where("JobOriginalFileLink", parent=self.job.id.val):
                if tx.get("OriginalFile", link.get("child")).get("name") == name:
                    return int(link.get("child"))
        return None

    def setDetach(self, call: Call, detach: bool) -> bool:
        """Set whether the process continues when this processor stops; answers the previous value."""
        with self._lock:
            before, self._detach = self._detach, detach
            return before

    def stop(self, call: Call) -> None:
        """Finish: the process is stopped and the session closed, unless detached."""
        with self._lock:
            if self._stopped:
                return
            if not self._detach:
                self._end()
            self._stopped = True

    def _end(self) -> None:
        """Request the end of the process, and end its session even if the process cannot be reached."""
        complaint = ""
        if self._process is not None:
            try:
                omero.grid.ProcessPrx.uncheckedCast(self._process.ice_oneway()).shutdown({})
                self._process = None
            except Ice.Exception as error:
                complaint = f"Failed to shutdown process: {type(error).__name__}"
        if self._session is not None:
            self.server.sessions.end(self._session.uuid)
            self._session = None
        if complaint:
            raise errors.internal(complaint)


class _SecondJoin:
    """Sets the times of a job's session when its script joins, which is after its processor has.

    The real server shows the default times until then.
    """

    def __init__(self) -> None:
        self.joined = 0

    def __call__(self, session: Session) -> None:
        self.joined += 1
        if self.joined == 2:
            session.time_to_live, session.time_to_idle = TIME_TO_LIVE, 0
            graph = session.server.graph
            with graph.transaction(graph.server()) as tx:
                tx.change(tx.get("Session", session.row_id), timeToLive=TIME_TO_LIVE, timeToIdle=0)


class ScriptProcessService(Service):
    """`omero.grid.ScriptProcess`: what `runScript` answers, and what clients poll."""

    interface = omero.grid.ScriptProcess
    checks_group = False

    def __init__(self, call: Call, processor: InteractiveProcessorService, process: Any) -> None:
        super().__init__(call.server, call.session)
        self.processor, self.process = processor, process
        self._ended = threading.Event()

    def publish(self) -> Any:
        """Put the servant on the adapter and listen to the node's process; answers the proxy for the client."""
        adapter = self.server.adapter
        self._callback = Ice.Identity(str(uuid.uuid4()), PROCESSCALLBACK)
        callback = self.session.add_servant(_EndCallback(self._ended), self._callback)
        call_node(self.process.registerCallback, omero.grid.ProcessCallbackPrx.uncheckedCast(callback), {})
        # the same category: OMERO.web recognizes processes by it, and other sessions may use them too
        self.identity = Ice.Identity(str(uuid.uuid4()), PROCESSCALLBACK)
        self.session.add_servant(servant_of(self), self.identity)
        return omero.grid.ScriptProcessPrx.uncheckedCast(adapter.createProxy(self.identity))

    def poll(self, call: Call) -> omero.RInt | None:
        """The exit code, or null while it runs. It is by polling that the node notices the end."""
        return self.process.poll({})

    def wait(self, call: Call) -> int:
        """Wait for the end; the exit code."""
        return int(self.process.wait({}))

    def cancel(self, call: Call) -> bool:
        """Request the end of the process; omero-py's processor answers False although it ends it."""
        return bool(self.process.cancel({}))

    def kill(self, call: Call) -> bool:
        """End the process."""
        return bool(self.process.kill({}))

    def shutdown(self, call: Call) -> None:
        """End the process, gently first."""
        self.process.shutdown({})

    def registerCallback(self, call: Call, callback: Any) -> None:
        """Register a callback of a client at the node; a client behind its own router cannot have one."""
        self.process.registerCallback(callback, {})

    def unregisterCallback(self, call: Call, callback: Any) -> None:
        """Remove a callback of a client."""
        self.process.unregisterCallback(callback, {})

    def getJob(self, call: Call) -> omero.model.Job:
        """The job as it was when it was given to the processor."""
        return self.processor.getJob(call)

    def getResults(self, call: Call, seconds: int) -> dict[str, omero.RType]:
        """The results; if the process is running, wait at most so many seconds for its end."""
        if not 0 <= seconds <= LONGEST_WAIT:
            raise errors.api_usage(f"Refusing to wait more than {LONGEST_WAIT} seconds: {seconds}")
        try:
            ended = self.process.poll({}) is not None
        except (omero.ServerError, Ice.Exception):  # the next call raises it for the client
            ended = False
        if not ended:
            self._ended.wait(seconds)
        return dict(self.processor.getResults(call, self.process).val)

    def setMessage(self, call: Call, message: str) -> str:
        """Set the message of the job's row; answers the old one."""
        return jobs.change(call, self.processor.job.id.val, message=message)[1]

    def close(self, call: Call, detach: bool) -> None:  # type: ignore[override]
        """Close: a process that is not detached is stopped."""
        self.processor.setDetach(call, detach)
        self.processor.stop(call)
        self.session.unregister(self.processor)
        for identity in (self._callback, self.identity):
            self.session.remove_servant(identity)


class _EndCallback(omero.grid.ProcessCallback):
    """A callback for the end of the process; only a node inside the grid can call it."""

    def __init__(self, ended: threading.Event) -> None:
        self._ended = ended

    def processFinished(self, code: int, current: Ice.Current | None = None) -> None:
        """The process ended."""
        self._ended.set()

    def processCancelled(self, success: bool, current: Ice.Current | None = None) -> None:
        """The process was cancelled."""
        self._ended.set()

    def processKilled(self, success: bool, current: Ice.Current | None = None) -> None:
        """It was ended."""
        self._ended.set()
