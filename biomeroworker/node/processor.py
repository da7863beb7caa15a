"""Our Processor: OMERO runs its scripts in it. A subclass of omero-py's, which stays as it is.

What it adds is what a script that carries a run for days needs:

* scripts see proxies, database and configuration of this host (`script_environment`), nothing secret of the login;
* a job is over as soon as its script is, not when a client happens to ask, and has its output then;
* *cancelled* and *left* are two things. A user's cancel sends SIGTERM, which our scripts record as the wish to end the
  run. When the node itself stops, or the job's session has ended, scripts get SIGHUP: the run goes on without them;
* a script that is told to end has a grace, also while the node stops (omero-py kills it at once then);
* a script that hangs while it is asked for its parameters does not hang the dialog for ever;
* it leaves the server's list of processors when it stops.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import Ice
import omero
import omero.clients
import omero.grid
import omero.processor
from omero.util.decorators import locked, perf, remoted
from omero_ext.path import path  # type: ignore[import-untyped]

from biomeroworker.omero.connection.session import bounds

#: Variables of this host that scripts get besides those that omero-py passes; a trailing star takes all that begin so.
PASSED_ON = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK", "TZ", "LC_CTYPE"),
    *("BIOMERO*", "SQLALCHEMY_URL", "PERSISTENCE_MODULE", "GPU_PARTITION", "GPU_GRES", "GPU_GPUS"),
    *("IMPORTER_ENABLED", "INGEST_TRACKING_DB_URL", "OMERO_HOST", "OMERO_PORT", "VIRTUAL_ENV", "XDG_*"),
)
#: More of them, by comma: a site's own.
PASSED_ON_VARIABLE = "BIOMEROWORKER_SCRIPT_ENVIRONMENT"
#: Never, whatever is listed: the worker's own login is not its users'.
KEPT_BACK = ("OMERO_PASSWORD", "OMERO_ROOT_PASSWORD")
#: Seconds that a script has between the signal and its end: five tries of six seconds, as omero-py's own.
CANCEL_GRACE = 30.0
#: The same while the node stops; IceGrid and docker kill a server that takes longer than 5 s and 10 s.
STOP_GRACE = 3.0
#: Milliseconds in which a server has to answer a processor that leaves.
GOODBYE = 2_000
#: Seconds that a script may take to say what its parameters are.
PARSE_LIMIT = 120.0
#: Seconds between two looks at the scripts that run.
WATCH_INTERVAL = 0.5
#: What servers call omero-py's own process class ("omero.process" is no module, and never was).
_DEFAULT_PROCESSES = ("", "omero.process.ProcessI", "omero.processor.ProcessI")

log = logging.getLogger(__name__)


def script_environment(given: Mapping[str, str], names: Iterable[str] = PASSED_ON) -> dict[str, str]:
    """What of the environment ``given`` scripts get on top of what omero-py passes."""
    wanted = [*names, *(name.strip() for name in given.get(PASSED_ON_VARIABLE, "").split(",") if name.strip())]
    prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))
    exact = {name for name in wanted if not name.endswith("*")}
    return {
        name: value
        for name, value in given.items()
        if (name in exact or (prefixes and name.startswith(prefixes))) and name not in KEPT_BACK
    }


def without_node(python_path: str) -> str:
    """A module path without this folder, which is there for IceGrid alone: its modules are none of a script's."""
    here = Path(__file__).resolve().parent
    return os.pathsep.join(entry for entry in python_path.split(os.pathsep) if entry and Path(entry).resolve() != here)


class Process(omero.processor.ProcessI):  # type: ignore[misc]  # omero-py has no types
    """One script that runs."""

    #: what ends it: a user's wish, or (SIGHUP) our going away
    ending = signal.SIGTERM
    grace = CANCEL_GRACE

    def make_env(self) -> None:
        """The environment of the script."""
        super().make_env()
        for name, value in script_environment(os.environ).items():
            self.env.set(name, value)
        self.env.set("PYTHONPATH", without_node(self.env().get("PYTHONPATH", "")))

    # -- one truth about being finished -----------------------------------------------------------------------------
    # omero-py takes a process for done once its exit code is known, even if that was noticed in passing and nothing was
    # cleaned up: the row then stays Running for ever and the output is lost. Here it is done after it is cleaned up.

    @locked  # type: ignore[untyped-decorator]
    def alreadyDone(self) -> bool:
        """Whether it has ended and its end is dealt with."""
        finished: bool = self.isFinished() and not self.isActive()
        return finished

    @locked  # type: ignore[untyped-decorator]
    def deactivate(self) -> None:
        """End it if it runs, set the job's status, upload its output; once, whoever asks."""
        if self.isActive() and not self.stopped:
            super().deactivate()

    @perf  # type: ignore[untyped-decorator]
    @locked  # type: ignore[untyped-decorator]
    def cleanup(self) -> None:
        """The job's session has ended, or the node stops. Neither is the user's wish to end the run."""
        if self.isActive():
            self.ending = signal.SIGHUP
            self.deactivate()
        super().cleanup()

    def leave(self) -> None:
        """Tell the script that its node goes away; does not wait."""
        if self.isRunning():
            self.ending, self.grace = signal.SIGHUP, 0.0
            self._term()

    def watch(self) -> bool:
        """Deal with its end if it has come; returns whether there is nothing left to watch."""
        popen = self.popen
        if popen is not None and popen.poll() is not None:  # asked quietly: a run may take days
            self.poll()
        return bool(self.alreadyDone())

    # -- ending -----------------------------------------------------------------------------------------------------

    def _term(self) -> None:
        try:
            self.status(f"sending {self.ending.name}")
            os.kill(self.pid, self.ending)
        except ProcessLookupError:
            pass

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def shutdown(self, current: Any = None) -> None:
        """Ask it to end, give it time, then kill it."""
        if not self.isRunning():
            return
        if self.ending == signal.SIGTERM:
            self.final_status = "Cancelled"
        self._term()
        if not self._ends_within(self.grace):
            self.status("did not end in time")
            self.popen.kill(True)
            self._ends_within(5.0)

    def _ends_within(self, seconds: float) -> bool:
        """Wait for the end; on SIGHUP its own exit code is the job's status, for nobody cancelled it."""
        end = time.monotonic() + seconds
        while not self.isFinished() and self.popen is not None:
            self.rcode = self.popen.poll()
            if self.rcode is None:
                if time.monotonic() > end:
                    return False
                time.sleep(0.05)
        return True

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def wait(self, current: Any = None) -> int:
        """Wait for its end; a script that is only asked for its parameters has `PARSE_LIMIT` seconds."""
        end = time.monotonic() + PARSE_LIMIT if self.params is None else None
        while True:
            code = self.poll()
            if code is not None:
                return int(code.val)
            if end is not None and time.monotonic() > end:
                self.logger.error("The script took more than %s s to name its parameters: killed", PARSE_LIMIT)
                self.popen.kill(True)
                end = None
            time.sleep(0.05)


class Processor(omero.processor.ProcessorI):  # type: ignore[misc]
    """The Processor of this node."""

    def __init__(self, ctx: Any, **settings: Any) -> None:
        self._watched: list[Process] = []
        self._left = False
        settings.setdefault("omero_home", path(os.environ.get("OMERODIR") or path.getcwd()))
        super().__init__(ctx, **settings)
        self._watcher = threading.Thread(target=self._watch, name="scripts", daemon=True)
        self._watcher.start()

    # -- where scripts log in ---------------------------------------------------------------------------------------

    def user_client(self, agent: str) -> Any:
        """A client for the script's session.

        It goes through the router that we came through; inside a grid, where there is none, to ``OMERO_HOST`` and
        ``OMERO_PORT``, else where the installation's ``etc/ice.config`` says, else to this host.
        """
        router, host = self.internal_session().ice_getRouter(), os.environ.get("OMERO_HOST")
        if router is not None:
            client = omero.client([f"--Ice.Default.Router={router}"], pmap=bounds())
        elif host or not os.path.exists(self.cfg):  # noqa: PTH110  may be several files, by comma
            client = omero.client(host or "localhost", int(os.environ.get("OMERO_PORT") or 4064), pmap=bounds())
        else:
            client = super().user_client(agent)
        client.setAgent(agent)
        return client

    def find_launcher(self, current: Any) -> tuple[str, Any]:
        """The interpreter and the class of the process; a server that names omero-py's own class gets ours."""
        asked = (current.ctx or {}) if current is not None else {}
        if asked.get("omero.process", "") in _DEFAULT_PROCESSES:
            return asked.get("omero.launcher") or sys.executable, Process
        launcher: tuple[str, Any] = super().find_launcher(current)
        return launcher

    # -- watching ---------------------------------------------------------------------------------------------------

    def process(self, *arguments: Any, **settings: Any) -> Any:
        """Start a script, and watch it from now on."""
        proxy, process = super().process(*arguments, **settings)
        if process.params is not None and isinstance(process, Process):
            self._watched.append(process)
        return proxy, process

    def _watch(self) -> None:
        while not self.stop_event.wait(WATCH_INTERVAL):
            for process in list(self._watched):
                try:
                    if process.watch():
                        self._watched.remove(process)
                except Exception:  # one script's trouble is not the others'
                    self.logger.exception("watching %s", process)
                    self._watched.remove(process)

    # -- leaving ----------------------------------------------------------------------------------------------------

    def unregister(self) -> None:
        """Leave the server's list, so that it does not ask a processor that is gone."""
        if self._left or self.prx is None:
            return
        self._left = True
        try:
            session = self.use_session or self.ctx.getSession(recreate=False)
            resources = session.ice_invocationTimeout(GOODBYE).sharedResources().ice_invocationTimeout(GOODBYE)
            resources.removeProcessor(omero.grid.ProcessorPrx.uncheckedCast(self.prx))
            self.logger.info("Unregistered %s", self.prx)
        except Exception as error:  # the server may have gone first
            self.logger.warning("Could not unregister: %s", type(error).__name__)

    def cleanup(self) -> None:
        """Stop: tell all scripts at once, take no more, wait a little, then clean up as omero-py does."""
        if getattr(self, "resources", None) is None:
            return
        running = [process for process in self._watched if process.isRunning()]
        for process in running:  # first of all: the server may be silent, and whoever stops us impatient
            process.leave()
        self.unregister()
        end = time.monotonic() + STOP_GRACE
        while time.monotonic() < end and any(process.popen.poll() is None for process in running if process.popen):
            time.sleep(0.05)
        super().cleanup()


def fresh(name: str, category: str = "") -> Any:
    """An identity that nobody had before: the server ignores a second subscription under one that it knows."""
    return Ice.Identity(f"{name}-{Ice.generateUUID()}", category)
