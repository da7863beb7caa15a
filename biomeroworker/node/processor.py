"""Our Processor: OMERO runs its scripts in it. A subclass of omero-py's, which stays as it is.

What it adds:

* scripts see only the variables that are listed in `biomeroworker.node.environment`;
* so many run at once as `[NODE] scripts_at_once` says, further ones wait for their turn;
* a job is over as soon as its script is, not when a client happens to ask, and has its output then;
* a cancel by a user and the stop of the node are told apart (see `biomeroworker.node.script_process`);
* parameters of scripts are answered from a cache (see `biomeroworker.node.parameters`);
* a change of the configuration counts for what starts after it;
* it leaves the server's list of processors when it stops.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
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
from biomeroworker.node.environment import script_environment
from biomeroworker.node.input_types import converted_numbers
from biomeroworker.node.parameter_files import ParameterFiles
from biomeroworker.node.parameters import ENTRIES, ParameterCache, cache_key, config_state
from biomeroworker.node.script_process import MESSAGE_LENGTH, MatlabProcess, ScriptProcess
from biomeroworker.node.script_queue import ScriptQueue
from biomeroworker.node.sessions import close_session, open_for_owner
from biomeroworker.omero.connection.session import ice_timeouts

#: Seconds that scripts have while the node stops; IceGrid and docker kill a server that takes longer than 5 s and 10 s.
STOP_GRACE_SECONDS = 3.0
#: Seconds in which the output of ended scripts is uploaded while the node stops.
STOP_REPORT_SECONDS = 4.0
#: Milliseconds in which a server has to answer a processor that leaves.
UNREGISTER_TIMEOUT_MS = 2_000
#: Seconds between two looks at the scripts that run, and at the files of the configuration.
WATCH_INTERVAL_SECONDS = 0.2
CONFIG_INTERVAL_SECONDS = 1.0
#: Threads that report the ends of scripts to OMERO, each of which takes several calls.
REPORTERS = 4
#: How many scripts name their parameters at the same time.
PARSES_AT_ONCE = 4
#: What servers call the classes of omero-py's processes ("omero.process" is no module, and never was).
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
    """A script as OMERO keeps it, and what runs it."""

    file: int
    sha1: str
    launcher: str
    kind: type[ScriptProcess]


class Processor(omero.processor.ProcessorI):  # type: ignore[misc]  # omero-py has no types
    """The Processor of this node."""

    def __init__(self, ctx: Any, **more: Any) -> None:
        self._live = LiveSettings(default=Settings.model_validate({}))
        self._queue: ScriptQueue[ScriptProcess] = ScriptQueue(lambda: self.settings.node.scripts_at_once)
        self._reporters = ThreadPoolExecutor(REPORTERS, thread_name_prefix="report")
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
        """The settings in force."""
        return self._live.settings

    # -- where scripts log in -----------------------------------------------------------------------------------------

    def user_client(self, agent: str) -> Any:
        """A client for the script's session.

        It goes through the router that we came through; inside a grid, where there is none, to ``OMERO_HOST`` and
        ``OMERO_PORT``, else where the installation's ``etc/ice.config`` says, else to this host.
        """
        router, host = self.internal_session().ice_getRouter(), os.environ.get("OMERO_HOST")
        if router is not None:
            client = omero.client([f"--Ice.Default.Router={router}"], pmap=ice_timeouts())
        elif host or not os.path.exists(self.cfg):  # noqa: PTH110  may be several files, by comma
            client = omero.client(host or "localhost", int(os.environ.get("OMERO_PORT") or 4064), pmap=ice_timeouts())
        else:
            client = super().user_client(agent)
        client.setAgent(agent)
        return client

    def find_launcher(self, current: Any) -> tuple[str, type[ScriptProcess]]:
        """The interpreter and the class of the process, as the server's configuration names them."""
        context = (current.ctx or {}) if current is not None else {}
        name = context.get("omero.process", "")
        if name not in _CLASSES:
            raise omero.ApiUsageException(
                None, None, f"omero.process {name!r} is not known to this Processor; it has {', '.join(_CLASSES)}"
            )
        return context.get("omero.launcher") or sys.executable, _CLASSES[name]

    # -- naming parameters --------------------------------------------------------------------------------------------

    @remoted  # type: ignore[untyped-decorator]
    def parseJob(self, session: str, job: Any, current: Any = None) -> Any:
        """The parameters of a script, from the cache if they are known; never behind scripts that run or wait."""
        file, handle = self.lookup(job)
        try:
            script = self._script(file, current)
            user, group = job.details.owner.id.val, job.details.group.id.val
            key = cache_key(script.sha1, user, group, script.launcher, self._config_state())
            answer = self._parameters.get(key, lambda: self._parse(script, session, job))
            if answer.params is not None:
                handle.setStatus("Finished")
            elif answer.source != "parsed":  # else the script's process has reported its end
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
        """Let the script name its parameters, in a session of the user who opens the dialog."""
        client = self.user_client("OMERO.parseJob")
        try:
            client.joinSession(session).detachOnDestroy()
            process = self._prepare(script, client, session, job, {"omero.scripts.parse": "true"}, iskill=False)
            # omero-py ends a script that has named its parameters with an exception, whose traceback helps no user
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
                self.logger.warning(
                    "script %s named no parameters: %s", script.file, process.reason or "see its stderr"
                )
            return None if found is None else found.val
        finally:
            client.closeSession()

    def _parse_again(self, script: Script, user: int, group: int) -> Any:
        """The same in a session of our own making: that of the dialog may have ended."""
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
        """Take a script: start it, or let it wait for its turn."""
        if not session or not job or not job.id:
            raise omero.ApiUsageException(None, None, "No null arguments")
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
                handle.setMessage(self._waiting_message(process))
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
        """The process with its folder, configuration and script."""
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
            owner_client=lambda: self._owner_client(job),
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
        """A client in a new session of a job's owner, to report with; None where we may not open one."""
        try:
            session = open_for_owner(self.internal_session(), job.details.owner.id.val, job.details.group.id.val)
            client = self.user_client("OMERO.process")
            client.joinSession(session)
        except Exception as error:
            self.logger.warning("job %s: no session to report its end with: %s", job.id.val, error)
            return None
        return client

    def _publish(self, process: ScriptProcess, current: Any) -> Any:
        """Make the process callable by the server."""
        identity = Ice.Identity(f"Process-{uuid.uuid4()}", self.category) if self.category else None
        proxy = self.ctx.add_servant(current, process, ice_identity=identity)
        process.adapter = current.adapter
        return omero.grid.ProcessPrx.uncheckedCast(proxy)

    def _waiting_message(self, process: ScriptProcess) -> str:
        waiting = self._queue.waiting()
        before = waiting.index(process) if process in waiting else 0
        setting = self.settings.line("NODE", "scripts_at_once")
        limit = self.settings.node.scripts_at_once
        return f"Waiting for its turn: {limit} scripts run at once, {before} wait before it. {setting}"[:MESSAGE_LENGTH]

    def _start_scripts(self) -> None:
        """Start as many waiting scripts as there is room for."""
        for process in self._queue.take():
            try:
                process.activate()
            except Exception as error:  # no interpreter, no memory, no processes left
                self.logger.exception("starting %s", process)
                self._queue.ended(process)
                self._reporters.submit(process.never_started, "Error", f"could not be started: {error}")
            else:
                self._reporters.submit(self._report_start, process)

    def _report_start(self, process: ScriptProcess) -> None:
        """The job runs. Unless it has ended meanwhile: that is reported once, and last."""
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
        """Enforce limits, report ends, start what waits, follow the configuration."""
        config_due = 0.0
        while not self.stop_event.is_set():
            self._wake.wait(WATCH_INTERVAL_SECONDS)
            self._wake.clear()
            now = time.monotonic()
            for process in self._queue.running():
                try:
                    process.enforce_limits(now)
                    if process.has_exited() and self._queue.ended(process):
                        self._reporters.submit(self._report_end, process)
                except Exception:  # one script's trouble is not the others'
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
            process.poll()  # uploads its output, sets the job's status, informs clients
        except Exception:
            self.logger.exception("reporting the end of %s", process)

    # -- leaving ------------------------------------------------------------------------------------------------------

    def unregister(self) -> None:
        """Leave the server's list, so that it does not ask a processor that is gone."""
        if self._unregistered or self.prx is None:
            return
        self._unregistered = True
        try:
            session = self.use_session or self.ctx.getSession(recreate=False)
            resources = session.ice_invocationTimeout(UNREGISTER_TIMEOUT_MS).sharedResources()
            resources = resources.ice_invocationTimeout(UNREGISTER_TIMEOUT_MS)
            resources.removeProcessor(omero.grid.ProcessorPrx.uncheckedCast(self.prx))
            self.logger.info("Unregistered %s", self.prx)
        except Exception as error:  # the server may have gone first
            self.logger.warning("Could not unregister: %s", type(error).__name__)

    def cleanup(self) -> None:
        """Stop: signal all scripts at once, take no more, wait a little, report, then clean up as omero-py does."""
        if getattr(self, "resources", None) is None:
            return
        self.stop_event.set()
        running = [process for process in self._queue.running() if not process.has_exited()]
        for process in running:  # first of all: the server may be silent, and what stops us impatient
            process.stop_with_node(STOP_GRACE_SECONDS)
        ends = [self._reporters.submit(process.stop_with_node, STOP_GRACE_SECONDS) for process in self._queue.waiting()]
        for process in list(self._parses):
            process.kill()
        self.unregister()
        end = time.monotonic() + STOP_GRACE_SECONDS
        while time.monotonic() < end and not all(process.has_exited() for process in running):
            time.sleep(0.05)
        ends += [self._reporters.submit(process.cleanup) for process in self._queue.running()]
        wait(ends, timeout=STOP_REPORT_SECONDS)
        self._reporters.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(Ice.CommunicatorDestroyedException):
            super().cleanup()


def fresh(name: str, category: str = "") -> Any:
    """A new identity: the server ignores a second subscription under one that it knows."""
    return Ice.Identity(f"{name}-{Ice.generateUUID()}", category)
