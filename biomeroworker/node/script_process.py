"""One OMERO script on this node: its process, its limits, its end. A subclass of omero-py's process.

A script ends by itself or is ended: by a user's cancel (SIGTERM, which our scripts record as a request to cancel the
run), because the node stops or the session in OMERO has ended (SIGHUP: the run goes on without its script), or because
it exceeds a limit. A script has time between the signal and SIGKILL. However it ended, its output is uploaded, and the
last line of its stderr says why it was ended and which setting to change.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import omero
import omero.clients
import omero.processor
from omero.rtypes import rstring
from omero.util.decorators import locked, perf, remoted

from biomeroworker.config import Settings
from biomeroworker.domain.backoff import backoff_delay
from biomeroworker.node import process_tree
from biomeroworker.node.environment import script_environment, without_node
from biomeroworker.node.sessions import close_session

#: Seconds between SIGTERM and SIGKILL when a script is cancelled, as with omero-py.
CANCEL_GRACE_SECONDS = 30.0
#: Seconds between SIGHUP and SIGKILL when a script exceeds `script_hours`, or its session has ended.
HANGUP_GRACE_SECONDS = 30.0
#: Letters that fit into the message of a job.
MESSAGE_LENGTH = 255
#: How often the end of a script is reported to OMERO while that does not answer, and the seconds between two tries.
REPORT_TRIES, REPORT_INTERVAL_SECONDS = 5, 3.0

_popen = functools.partial(subprocess.Popen, stdin=subprocess.DEVNULL, start_new_session=True)


class ScriptProcess(omero.processor.ProcessI):  # type: ignore[misc]  # omero-py has no types
    """One script that waits, runs, or has ended.

    Parameters
    ----------
    settings
        In force when the script was handed in.
    leave_queue
        Called before a waiting script is given up; returns whether it was still waiting.
    owner_client
        Makes a client in a new session of the job's owner, to report the end of a script whose session has ended; None
        where that is not allowed.
    """

    # as omero-py sets them
    popen: Any
    pid: int
    rcode: int | None
    final_status: str | None
    started: float
    stopped: float | None

    def __init__(
        self,
        *arguments: Any,
        settings: Settings,
        leave_queue: Callable[[ScriptProcess], bool] = lambda process: False,
        owner_client: Callable[[], Any] = lambda: None,
        **more: Any,
    ) -> None:
        self.settings, self._leave_queue, self._owner_client = settings, leave_queue, owner_client
        #: whether output and status of its job are to be reported; called when it has ended
        self.needs_report: Callable[[], bool] = lambda: True
        self.signal_to_end = signal.SIGTERM
        self.grace_seconds = CANCEL_GRACE_SECONDS
        self.reason = ""  #: why it was ended; empty if it ended by itself
        self.adapter: Any = None  #: where its servant is
        self.group = -1  #: of its job
        self._kill_at: float | None = None
        self._killed = self._node_stops = False
        super().__init__(*arguments, Popen=_popen, **more)

    @property
    def job(self) -> str:
        """The id of its job; empty for a script that is parsed in the background, whose end is reported nowhere."""
        return str(self.properties.get("omero.job", ""))

    def make_env(self) -> None:
        """The environment of the script."""
        super().make_env()
        for name, value in script_environment(os.environ, self.settings.node.forward_env).items():
            self.env.set(name, value)
        self.env.set("PYTHONPATH", without_node(self.env().get("PYTHONPATH", "")))

    @locked  # type: ignore[untyped-decorator]
    def activate(self) -> None:
        """Start it."""
        super().activate()
        process_tree.prefer_for_oom(self.pid)

    # -- one truth about having ended ---------------------------------------------------------------------------------
    # omero-py takes a process for done once its exit code is known, even if that was noticed in passing and nothing was
    # cleaned up: the job's row then stays Running for ever and the output is lost. Here it is done after the clean-up.

    @locked  # type: ignore[untyped-decorator]
    def alreadyDone(self) -> bool:
        """Whether it has ended and its end was reported."""
        done: bool = self.isFinished() and not self.isActive()
        return done

    def has_exited(self) -> bool:
        """Whether the process is over, reported or not."""
        return self.popen is None or self.popen.poll() is not None

    @locked  # type: ignore[untyped-decorator]
    def deactivate(self) -> None:
        """End it if it runs, upload its output, set the job's status; once, whoever calls."""
        if not self.isActive() or self.stopped:
            return
        self.stopped = time.time()
        try:
            self.shutdown()
            if self.rcode == -signal.SIGKILL and not self._killed and self.final_status is None:
                self.reason = (
                    "killed by SIGKILL, which this node did not send: by the kernel because memory ran out, or by an "
                    f"administrator. If memory is short, lower {self._setting('scripts_at_once')} or "
                    f"{self._setting('script_memory_gb')}"
                )
            self.popen = None
            self.cleanup_output()
            self._report()
        except Exception:
            self.logger.exception("reporting the end of pid %s", self.pid)
        finally:
            self.cleanup_tmpdir()
        self.status(f"ended after {self.stopped - self.started:.0f} s")

    def _report(self) -> None:
        """Upload output and set the status; tried again while OMERO does not answer, unless the node stops."""
        if not self.job or not self.needs_report():
            return
        if self.reason:
            with self.stderr_path.open("a") as stderr:
                stderr.write(f"biomeroworker: {self.reason}\n")
        for attempt in range(1, REPORT_TRIES + 1):
            client = self.tmp_client()
            if client is not None:
                try:
                    self.upload_output(client)
                    self.set_job_status(client)
                    return
                finally:
                    client.__del__()  # closes the session and ends its threads
            if (
                self._node_stops
                or attempt == REPORT_TRIES
                or self.stop_event.wait(
                    backoff_delay(attempt, first=REPORT_INTERVAL_SECONDS, longest=REPORT_INTERVAL_SECONDS)
                )
            ):
                break
        self.logger.error("job %s: its end could not be reported to OMERO", self.job)

    def tmp_client(self) -> Any:
        """A client that reports the end: in the script's session, or in another of its owner's if that has ended."""
        client = super().tmp_client()
        if client is None and not self._node_stops:
            client = self._owner_client()
        if client is not None:
            client.ic.getProperties().setProperty("omero.job", self.job)
        return client

    def set_job_status(self, client: Any) -> None:
        """The job's status, and why it was ended as its message."""
        group = client.sf.getAdminService().getEventContext().groupId
        handle = omero.processor.WithGroup(client.sf.createJobHandle(), group)
        status = self.final_status or ("Finished" if self.rcode == 0 else "Error")
        try:
            handle.attach(int(self.job))
            handle.setStatusAndMessage(status, rstring(self.reason[:MESSAGE_LENGTH]) if self.reason else None)
        finally:
            handle.close()

    # -- waiting for its turn -----------------------------------------------------------------------------------------

    def give_up_waiting(self, status: str, reason: str) -> bool:
        """End it if it has not been started yet; returns whether that was so."""
        if not self._leave_queue(self):
            return False
        self.never_started(status, reason)
        return True

    @locked  # type: ignore[untyped-decorator]
    def never_started(self, status: str, reason: str) -> None:
        """Report a script that was never started."""
        self.final_status, self.reason, self.rcode = status, reason, -int(signal.SIGTERM)
        self.stdout_path.touch()
        self.stderr_path.touch()
        try:
            self._report()
        except Exception:
            self.logger.exception("reporting that job %s was not started", self.job)
        finally:
            self.cleanup_tmpdir()
        self.allcallbacks("processFinished", self.rcode)

    # -- limits -------------------------------------------------------------------------------------------------------

    def enforce_limits(self, now: float) -> None:
        """End it if it exceeds a limit, or has not ended in time after a signal. ``now``: `time.monotonic`."""
        if self.has_exited():
            return
        if self._kill_at is not None and now >= self._kill_at:
            self._kill(f"{self.reason or 'cancelled'}; it did not end within {self.grace_seconds:.0f} s and was killed")
            return
        node = self.settings.node
        limit = int(node.script_memory_gb * 1e9) if node.script_memory_gb else process_tree.machine_bytes() // 2
        pids = process_tree.members(self.pid)
        if process_tree.used_bytes(pids) > limit and (used := process_tree.shared_once_bytes(pids)) > limit:
            self._kill(
                f"killed because it used {used / 1e9:.2f} GB of memory with the {len(pids) - 1} processes that it "
                f"started; the limit is {limit / 1e9:.2f} GB, {self._setting('script_memory_gb')}"
            )
        elif node.script_hours and self._kill_at is None and time.time() - self.started > node.script_hours * 3600:
            self.hang_up(
                f"ended after {node.script_hours:g} hours, the limit of {self._setting('script_hours')}; "
                "a run that it followed goes on",
                HANGUP_GRACE_SECONDS,
            )

    def _setting(self, key: str) -> str:
        return self.settings.line("NODE", key)

    # -- ending -------------------------------------------------------------------------------------------------------

    def hang_up(self, reason: str, grace_seconds: float) -> None:
        """Send SIGHUP: the run goes on without its script. Does not wait."""
        self.signal_to_end, self.grace_seconds, self.reason = signal.SIGHUP, grace_seconds, reason
        self._kill_at = time.monotonic() + grace_seconds
        self._signal()

    def stop_with_node(self, grace_seconds: float) -> None:
        """The node stops: the same, and OMERO may not answer any more."""
        self._node_stops = True
        if not self.give_up_waiting("Error", "not started: the node stopped first; start the script again"):
            self.hang_up("ended because the node stopped; a run that it followed goes on", grace_seconds)

    def _kill(self, reason: str) -> None:
        self.reason, self._killed = reason, True
        self.logger.warning("job %s: %s", self.job, reason)
        process_tree.kill(self.pid)

    def _signal(self) -> None:
        if not self.has_exited():
            self.logger.info("job %s: sending %s", self.job, self.signal_to_end.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.signal_to_end)

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def cancel(self, current: Any = None) -> bool:
        """A user's cancel. A script that waits is over at once; one that runs is told, and killed after its time."""
        if self.alreadyDone() or self.give_up_waiting("Cancelled", "cancelled before it was started"):
            self.allcallbacks("processCancelled", True)
            return True
        if not self.wasActivated() or self.has_exited():
            return bool(self.isFinished())
        if self.final_status is None:
            self.final_status = "Cancelled"
            self._kill_at = time.monotonic() + self.grace_seconds
            self._signal()
        self.allcallbacks("processCancelled", False)
        return False

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def kill(self, current: Any = None) -> bool:
        """A client's kill: no time to end."""
        if self.alreadyDone() or self.give_up_waiting("Cancelled", "cancelled before it was started"):
            self.allcallbacks("processKilled", True)
            return True
        if self.wasActivated() and not self.has_exited():
            self.final_status = "Cancelled"
            self._kill("killed at the request of a client")
        self.allcallbacks("processKilled", False)
        return False

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def shutdown(self, current: Any = None) -> None:
        """Send the signal, wait, then kill."""
        if self.alreadyDone() or self.give_up_waiting("Cancelled", "cancelled before it was started"):
            return
        if not self.isRunning():
            return
        if not self.has_exited() and self._kill_at is None:
            if self.signal_to_end == signal.SIGTERM:
                self.final_status = "Cancelled"
            self._kill_at = time.monotonic() + self.grace_seconds
            self._signal()
        while not self._take_exit_code():
            if self._kill_at is not None and time.monotonic() > self._kill_at and not self._killed:
                self.enforce_limits(time.monotonic())
            time.sleep(0.05)

    def _take_exit_code(self) -> bool:
        if self.rcode is None and self.popen is not None:
            self.rcode = self.popen.poll()
        return self.rcode is not None or self.popen is None

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def wait(self, current: Any = None) -> int:
        """Wait for its end; a script that is only asked for its parameters has `parse_seconds`."""
        seconds = self.settings.node.parse_seconds
        end = time.monotonic() + seconds if self.params is None else None
        while True:
            if self.alreadyDone() or (self.wasActivated() and self.has_exited()):
                return int(self.poll().val)
            if end is not None and time.monotonic() > end:
                self._kill(
                    f"killed because it did not name its parameters within {seconds:g} s, "
                    f"the limit of {self._setting('parse_seconds')}"
                )
                end = None
            if self.params is None and self.isActive():
                self.enforce_limits(time.monotonic())
            time.sleep(0.05)

    # -- called by omero-py -------------------------------------------------------------------------------------------

    @perf  # type: ignore[untyped-decorator]
    def check(self) -> bool:
        """Whether its session still lives; called about every minute, which keeps it alive."""
        try:
            self.ctx.getSession().getSessionService().getSession(self.uuid)
        except Exception as error:
            self.logger.info("job %s: its session has ended (%s)", self.job, type(error).__name__)
            return False
        return True

    @perf  # type: ignore[untyped-decorator]
    def cleanup(self) -> None:
        """Its session has ended, or the node stops. Neither is a user's cancel. Waits only if the node stops."""
        if self._node_stops or not self.wasActivated():
            self.deactivate()
        elif self.isActive() and not self.has_exited() and self._kill_at is None:
            self.hang_up(
                "ended because its session in OMERO has ended (closed by the client, or omero.scripts.timeout passed); "
                "a run that it followed goes on",
                HANGUP_GRACE_SECONDS,
            )
        self.give_up_waiting("Error", "not started: its session in OMERO has ended")
        self._close_session()
        if self.adapter is not None and not self._node_stops:  # its session is over: clients cannot call it any more
            self.ctx.servant_map.pop(self.prx, None)
            self.adapter.remove(self.prx.ice_getIdentity())
            self.adapter = None

    def _close_session(self) -> None:
        """End the script's session, where this process is to do that."""
        if not self.iskill:
            return
        try:
            close_session(self.ctx.getSession(recreate=False), self.uuid)
        except omero.ServerError as error:  # OMERO is away
            self.logger.debug("closing a session: %s", type(error).__name__)


class MatlabProcess(ScriptProcess, omero.processor.MATLABProcessI):  # type: ignore[misc]
    """A script that MATLAB runs."""
