"""The Processor in which OMERO runs its scripts: a subclass of omero-py's Processor.

It adds to omero-py's Processor:

* scripts get only the environment variables that are listed in `biomeroworker.node.environment`;
* at most `[NODE] scripts_at_once` scripts run at the same time, further ones wait in a queue;
* a job gets its output and its final status as soon as its script ends, even if no client polls the process;
* a user's cancel and the stop of the node reach a script as different signals (`biomeroworker.node.script_process`);
* parameters of scripts come from a cache (`biomeroworker.node.parameters`);
* a changed configuration applies to scripts that start after the change; a stop gives each job its final status.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.model
import omero.processor
import omero.scripts
from omero.rtypes import rstring
from omero.util.decorators import remoted
from omero_ext.path import path  # type: ignore[import-untyped]

from biomeroworker.config import Settings
from biomeroworker.config.live import LiveSettings
from biomeroworker.node.deadline import run_until
from biomeroworker.node.environment import script_environment
from biomeroworker.node.input_types import converted_numbers
from biomeroworker.node.parameter_files import ParameterFiles
from biomeroworker.node.parameters import ENTRIES, ParameterCache, cache_key, config_state
from biomeroworker.node.script_process import MESSAGE_CHARACTERS, STOP_CALL_TIMEOUT_MS, MatlabProcess, ScriptProcess
from biomeroworker.node.script_queue import ScriptQueue
from biomeroworker.node.sessions import close_session, open_for_owner
from biomeroworker.omero.connection.session import ice_timeouts

#: Time limit of a stop. `biomeroworker attach` exits after 8 s in any case, the container kills it after 12 s.
STOP_SECONDS = 7.0
#: Part of it in which scripts can end after SIGHUP; in the rest the ends of all scripts are reported.
STOP_GRACE_SECONDS = 3.0
#: Time between two checks of the running scripts, and of the configuration files.
WATCH_INTERVAL_SECONDS = 0.2
CONFIG_INTERVAL_SECONDS = 1.0
#: Threads that report the ends of scripts to OMERO; a report takes several calls.
REPORT_THREADS = 4
#: Maximum number of scripts that name their parameters at the same time.
PARSES_AT_ONCE = 4
#: Process classes by the name that a server sends. Servers also send "omero.process…", a module that does not exist.
_CLASSES = {
    "": ScriptProcess,
    "omero.process.ProcessI": ScriptProcess,
    "omero.processor.ProcessI": ScriptProcess,
    "omero.process.MATLABProcessI": MatlabProcess,
    "omero.processor.MATLABProcessI": MatlabProcess,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Script:
    """A script as it is stored in OMERO, with its interpreter and the class of its process."""

    file: int
    sha1: str
    launcher: str
    kind: type[ScriptProcess]


class Processor(omero.processor.ProcessorI):  # type: ignore[misc]  # omero-py has no types
    """The Processor of this node."""

    def __init__(self, ctx: Any, **more: Any) -> None:
        self._live = LiveSettings(default=Settings.model_validate({}))
        self._queue: ScriptQueue[ScriptProcess] = ScriptQueue(lambda: self.settings.node.scripts_at_once)
        self._reporters = ThreadPoolExecutor(REPORT_THREADS, thread_name_prefix="report")
        self._reports: dict[Future[None], ScriptProcess] = {}  #: that are under way or waiting for a thread
        self._wake = threading.Event()
        self._parameters = ParameterCache(ParameterFiles(self.settings.state / "dialogs", ENTRIES))
        self._parse_slots = threading.BoundedSemaphore(PARSES_AT_ONCE)
        self._parses: set[ScriptProcess] = set()
        self._unregistered = False
        more.setdefault("omero_home", path(os.environ.get("OMERODIR") or path.getcwd()))
        super().__init__(ctx, **more)
        threading.Thread(target=self._watch, name="scripts", daemon=True).start()

    @property
    def settings(self) -> Settings:
        return self._live.settings

    # -- sessions and clients -----------------------------------------------------------------------------------------

    def node_session(self, *, recreate: bool = True) -> Any:
        """The Processor's session: that of its user if it is attached, otherwise an internal session of the grid.

        Raises
        ------
        omero.ServerError
            The internal session has ended; with ``recreate``: and no new one can be opened.
        """
        return self.use_session or self.ctx.getSession(recreate=recreate)

    def user_client(self, agent: str) -> Any:
        """A client for the script's session.

        It connects through the router of the Processor's session. Inside a grid, which has no router, it connects to
        ``OMERO_HOST`` and ``OMERO_PORT``, otherwise as ``etc/ice.config`` of the installation says, otherwise to this
        host.
        """
        router, host = self.internal_session().ice_getRouter(), os.environ.get("OMERO_HOST")
        if router is not None:
            client = omero.client([f"--Ice.Default.Router={router}"], pmap=ice_timeouts())
        elif host or not os.path.exists(self.cfg):  # noqa: PTH110  can be several files, separated by commas
            client = omero.client(host or "localhost", int(os.environ.get("OMERO_PORT") or 4064), pmap=ice_timeouts())
        else:
            client = super().user_client(agent)
        client.setAgent(agent)
        return client

    def find_launcher(self, current: Any) -> tuple[str, type[ScriptProcess]]:
        """The interpreter and the process class that the server's configuration names."""
        context = (current and current.ctx) or {}
        name = context.get("omero.process", "")
        if name not in _CLASSES:
            raise omero.ApiUsageException(
                None, None, f"omero.process {name!r} is not known to this Processor; it knows {', '.join(_CLASSES)}"
            )
        return context.get("omero.launcher") or sys.executable, _CLASSES[name]

    # -- naming parameters --------------------------------------------------------------------------------------------

    @remoted  # type: ignore[untyped-decorator]
    def parseJob(self, session: str, job: Any, current: Any = None) -> Any:
        """The parameters of a script, from the cache if possible; does not wait for scripts that run."""
        file, handle = self.lookup(job)
        try:
            script = self._script(file, current)
            user, group = job.details.owner.id.val, job.details.group.id.val
            key = cache_key(script.sha1, user, group, script.launcher, self._config_state())
            answer = self._parameters.get(key, lambda: self._parse(script, session, job))
            if answer.params is not None:
                handle.setStatus("Finished")
            elif answer.source != "parsed":  # after a parse of its own, the process has reported its end
                handle.setStatus("Error")
            if answer.source == "cache":
                self._parameters.refresh_later(key, lambda: self._parse_again(script, user, group))
            return answer.params
        finally:
            handle.close()

    def _config_state(self) -> str:
        environment = script_environment(os.environ, self.settings.node.forward_env)
        return config_state(self._live.files.digest(), environment, self.settings)

    def _parse(self, script: Script, session: str, job: Any = None) -> Any:
        """Run the script in parse mode, in a session of the user who opens the dialog; None if it fails."""
        client = self.user_client("OMERO.parseJob")
        try:
            client.joinSession(session).detachOnDestroy()
            process = self._prepare(script, client, session, job, {"omero.scripts.parse": "true"}, iskill=False)
            # omero-py ends a script that has named its parameters with an exception; its traceback is not an error
            process.needs_report = lambda: client.getOutput("omero.scripts.parse") is None
            with self._parse_slots:
                process.activate()
                self._parses.add(process)
                try:
                    process.wait()
                finally:
                    self._parses.discard(process)
            found = client.getOutput("omero.scripts.parse")
            if found is None:
                reason = process.reason or "see its stderr"
                self.logger.warning("script %s named no parameters: %s", script.file, reason)
            return None if found is None else found.val
        finally:
            client.closeSession()

    def _parse_again(self, script: Script, user: int, group: int) -> Any:
        """Parse in a new session of the user, because the session of the dialog may have ended."""
        session = open_for_owner(self.internal_session(), user, group)
        try:
            return self._parse(script, session)
        finally:
            close_session(self.internal_session(), session)

    # -- starting scripts ---------------------------------------------------------------------------------------------

    def _script(self, file: Any, current: Any) -> Script:
        if file is None:
            raise omero.ApiUsageException(None, None, "Job should have one executable file attached.")
        launcher, kind = self.find_launcher(current)
        return Script(file.id.val, file.hash.val, launcher, kind)

    def process(
        self, client: Any, session: str, job: Any, current: Any, params: Any,
        properties: dict[str, str] | None = None, iskill: bool = True,
    ) -> tuple[Any, ScriptProcess]:  # fmt: skip
        """Start a script, or put it into the queue."""
        if not session or not job or not job.id:
            raise omero.ApiUsageException(None, None, "No null arguments")
        if self.stop_event.is_set():  # of all exceptions, only this one makes the server end the job
            raise omero.ValidationException(None, None, "The node is stopping: start the script again.")
        file, handle = self.lookup(job)
        try:
            script = self._script(file, current)
            self._check_inputs(params, session)
            process = self._prepare(script, client, session, job, properties or {}, params, iskill=iskill)
            self.resources.add(process)
            proxy = self._publish(process, current)
            self._queue.add(process)
            self._start_scripts()
            if not process.wasActivated():
                handle.setMessage(self._queue_message(process))
            return proxy, process
        finally:
            handle.close()

    def _check_inputs(self, params: Any, session: str) -> None:
        service = self.internal_session().getSessionService()
        inputs = service.getInputs(session)
        for name, value in converted_numbers(params, inputs).items():
            service.setInput(session, name, value)
            inputs[name] = value
        if errors := omero.scripts.validate_inputs(params, inputs, service, session):
            raise omero.ValidationException(None, None, f"Invalid parameters:\n{errors}")

    def _prepare(
        self, script: Script, client: Any, session: str, job: Any, properties: dict[str, str],
        params: Any = None, *, iskill: bool,
    ) -> ScriptProcess:  # fmt: skip
        """Create the process with its folder, configuration and script."""
        properties |= {
            "omero.user": session,
            "omero.pass": session,
            "Ice.Default.Router": client.getProperty("Ice.Default.Router"),
        }
        if job is not None:
            properties["omero.job"] = str(job.id.val)
        process = script.kind(
            self.ctx, script.launcher, properties, params, iskill,
            omero_home=self.omero_home, settings=self.settings, leave_queue=self._queue.withdraw,
            owner_client=lambda: self._owner_client(job), node_session=self.node_session,
        )  # fmt: skip
        if job is not None:
            process.group = job.details.group.id.val
        text = self.internal_session().getScriptService().getScriptText(script.file).encode()
        if (found := hashlib.sha1(text, usedforsecurity=False).hexdigest()) != script.sha1:
            process.cleanup_tmpdir()
            raise omero.InternalException(
                None, None, f"script {script.file} has SHA-1 {found}, but OMERO's database says {script.sha1}"
            )
        process.script_path.write_bytes(text)
        return process

    def _owner_client(self, job: Any) -> Any:
        """A client in a new session of a job's owner; None if the Processor may not open one, or without a job."""
        if job is None:
            return None
        try:
            session = open_for_owner(self.internal_session(), job.details.owner.id.val, job.details.group.id.val)
            client = self.user_client("OMERO.process")
            client.joinSession(session)
        except Exception as error:
            self.logger.warning("job %s: cannot open a session to report its end: %s", job.id.val, error)
            return None
        return client

    def _publish(self, process: ScriptProcess, current: Any) -> Any:
        """Make the process callable by the server."""
        identity = Ice.Identity(f"Process-{uuid.uuid4()}", self.category) if self.category else None
        proxy = self.ctx.add_servant(current, process, ice_identity=identity)
        process.adapter = current.adapter
        return omero.grid.ProcessPrx.uncheckedCast(proxy)

    def _queue_message(self, process: ScriptProcess) -> str:
        waiting = self._queue.waiting()
        before = waiting.index(process) if process in waiting else 0
        setting = self.settings.line("NODE", "scripts_at_once")
        limit = self.settings.node.scripts_at_once
        message = (
            f"In the queue: {limit} scripts run at the same time, {before} scripts wait before this one. {setting}"
        )
        return message[:MESSAGE_CHARACTERS]

    def _start_scripts(self) -> None:
        """Start waiting scripts up to the limit."""
        for process in self._queue.take() if not self.stop_event.is_set() else ():
            try:
                process.activate()
            except Exception as error:  # no interpreter, no memory, no processes left
                self.logger.exception("starting %s", process)
                self._queue.ended(process)
                self._report(process, process.report_not_started, "Error", f"could not be started: {error}")
            else:
                self._report(process, self._report_start, process)

    def _report(self, process: ScriptProcess, report: Callable[..., None], *arguments: Any) -> None:
        """Call ``report`` in one of the threads for reports."""
        future = self._reporters.submit(report, *arguments)
        self._reports[future] = process
        future.add_done_callback(lambda future: self._reports.pop(future, None))

    def _report_start(self, process: ScriptProcess) -> None:
        """Set the job's status to Running, unless the script has ended: Running must never follow a final status."""
        try:
            with process._lock:
                if process.isActive():
                    handle = omero.processor.WithGroup(self.internal_session().createJobHandle(), process.group)
                    try:
                        handle.attach(int(process.job))
                        handle.setStatusAndMessage("Running", rstring(""))
                    finally:
                        handle.close()
        except Exception as error:
            self.logger.warning("job %s: Running could not be reported: %s", process.job, error)

    # -- watching -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Enforce limits, report ends, start waiting scripts, reload the configuration."""
        config_due = 0.0
        while not self.stop_event.is_set():
            self._wake.wait(WATCH_INTERVAL_SECONDS)
            self._wake.clear()
            now = time.monotonic()
            for process in self._queue.running():
                try:
                    process.enforce_limits(now)
                    if process.has_exited() and self._queue.ended(process):
                        self._report(process, self._report_end, process)
                except Exception:  # the other scripts are not affected
                    self.logger.exception("watching %s", process)
            try:
                if now >= config_due:
                    config_due = now + CONFIG_INTERVAL_SECONDS
                    self._live.refresh()
                self._start_scripts()
            except Exception:
                self.logger.exception("starting scripts")

    def _report_end(self, process: ScriptProcess) -> None:
        try:
            process.poll()  # uploads its output, sets the job's status, notifies clients
        except Exception:
            self.logger.exception("reporting the end of %s", process)

    # -- stopping -----------------------------------------------------------------------------------------------------

    def unregister(self) -> None:
        """Remove this Processor from the server's list, so that the server does not call a stopped Processor."""
        if self._unregistered or self.prx is None:
            return
        self._unregistered = True
        try:
            session = self.node_session(recreate=False).ice_invocationTimeout(STOP_CALL_TIMEOUT_MS)
            resources = session.sharedResources().ice_invocationTimeout(STOP_CALL_TIMEOUT_MS)
            resources.removeProcessor(omero.grid.ProcessorPrx.uncheckedCast(self.prx))
            self.logger.info("Unregistered %s", self.prx)
        except Exception as error:  # the server may have stopped before
            self.logger.warning("Could not unregister: %s", type(error).__name__)

    def cleanup(self) -> None:
        """Stop within `STOP_SECONDS`: signal and end all scripts, report their ends, and clean up as omero-py does.

        Each step that needs OMERO has a thread of its own: when the server is silent or slow, one step does not delay
        the others, and none delays the end of this process.
        """
        if getattr(self, "resources", None) is None:
            return
        deadline = time.monotonic() + STOP_SECONDS
        self.stop_event.set()
        running, ending = self._queue.running(), list(self._reports.values())
        for process in {*running, *ending}:
            process.stop_with_node(STOP_GRACE_SECONDS)
        for process in list(self._parses):
            process.kill()
        ends = [process.cleanup for process in {*running, *ending}]
        ends += [partial(process.stop_with_node, STOP_GRACE_SECONDS) for process in self._queue.waiting()]
        run_until(deadline, [*ends, partial(wait, list(self._reports)), self.unregister])
        self._reporters.shutdown(wait=False, cancel_futures=True)
        run_until(deadline, [super().cleanup])


def new_identity(name: str, category: str = "") -> Any:
    """A unique identity: a server ignores the registration of a second Processor under an identity that it knows."""
    return Ice.Identity(f"{name}-{Ice.generateUUID()}", category)
