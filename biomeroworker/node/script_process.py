"""The process of one OMERO script: its start, its limits and its end. A subclass of omero-py's process.

A script ends on its own, or it is stopped: with SIGTERM when a user cancels it (our scripts then request the
cancellation of their run), with SIGHUP when the node stops or its OMERO session ended (the run continues without the
script), or with SIGKILL when it exceeds a limit or does not end in time after a signal. In each case its job gets a
final status, its output is uploaded, and the last line of its stderr is the reason, with the setting to change.

When the node stops, the status comes first and goes through the node's own session, because it can be killed itself
before the output is uploaded; a job without a final status would stay Running for ever.
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

#: Time between SIGTERM and SIGKILL when a script is cancelled; the same as in omero-py.
CANCEL_GRACE_SECONDS = 30.0
#: Time between SIGHUP and SIGKILL when a script exceeds `script_hours`, or its session has ended.
HANGUP_GRACE_SECONDS = 30.0
#: Maximum length of a job's message in OMERO's database.
MESSAGE_CHARACTERS = 255
#: Attempts to report the end of a script while OMERO does not answer, and the time between two of them.
REPORT_ATTEMPTS, REPORT_INTERVAL_SECONDS = 5, 3.0
#: Time between two checks whether a process has ended.
_POLL_SECONDS = 0.05
#: Invocation timeout of a call to OMERO while the node stops.
STOP_CALL_TIMEOUT_MS = 4_000

_popen = functools.partial(subprocess.Popen, stdin=subprocess.DEVNULL, start_new_session=True)


class ScriptProcess(omero.processor.ProcessI):  # type: ignore[misc]  # omero-py has no types
    """A script that waits in the queue, runs, or has ended.

    Parameters
    ----------
    settings
        The settings when the job was submitted.
    leave_queue
        Removes the script from the queue; returns whether it was waiting there.
    owner_client
        Returns a client in a new session of the job's owner, to report the end of a script whose session has ended;
        None if the Processor may not open such a session.
    node_session
        Returns the Processor's session; with ``recreate=False`` it raises instead of opening a new one.
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
        leave_queue: Callable[[ScriptProcess], bool],
        owner_client: Callable[[], Any],
        node_session: Callable[..., Any],
        **more: Any,
    ) -> None:
        self.settings, self._leave_queue = settings, leave_queue
        self._owner_client, self._node_session = owner_client, node_session
        #: called at its end: whether to upload its output and set its job's status
        self.needs_report: Callable[[], bool] = lambda: True
        self.signal_to_end = signal.SIGTERM
        self.grace_seconds = CANCEL_GRACE_SECONDS
        self.reason = ""  #: why it was stopped; empty if it ended on its own
        self.adapter: Any = None  #: the adapter of its servant
        self.group = -1  #: the id of its job's group
        self._kill_at: float | None = None
        self._is_started = self._killed = self._node_stops = False
        super().__init__(*arguments, Popen=_popen, **more)

    @property
    def job(self) -> str:
        """The id of its job; empty for a parse in the background, which has no job."""
        return str(self.properties.get("omero.job", ""))

    def make_env(self) -> None:
        """Set the environment of the script."""
        super().make_env()
        for name, value in script_environment(os.environ, self.settings.node.forward_env).items():
            self.env.set(name, value)
        self.env.set("PYTHONPATH", without_node(self.env().get("PYTHONPATH", "")))

    @locked  # type: ignore[untyped-decorator]
    def activate(self) -> None:
        """Start the script; raises if the node is stopping."""
        if self._node_stops:
            raise RuntimeError("the node is stopping")
        super().activate()
        self._is_started = True
        process_tree.prefer_for_oom(self.pid)
        if self._kill_at is not None:  # the stop of the node began during the start
            self._signal()

    # -- the end of the process and its report ------------------------------------------------------------------------
    # omero-py treats a process as done as soon as its exit code is known, even before the clean-up: the job could then
    # stay Running for ever, and the output could be lost. Here a process is done after its end has been reported.

    @locked  # type: ignore[untyped-decorator]
    def alreadyDone(self) -> bool:
        """Whether it has ended and its end was reported."""
        done: bool = self.isFinished() and not self.isActive()
        return done

    def has_exited(self) -> bool:
        """Whether the process has ended, reported or not; False before its start, too."""
        return self.rcode is not None if self.popen is None else self.popen.poll() is not None

    @locked  # type: ignore[untyped-decorator]
    def deactivate(self) -> None:
        """Stop it if it runs, upload its output, and set the job's status. Further calls have no effect."""
        if not self.isActive() or self.stopped:
            return
        self.stopped = time.time()
        try:
            self.shutdown()
            if self.rcode == -signal.SIGKILL and not self._killed and self.final_status is None:
                self.reason = (
                    "killed with SIGKILL, not by this node: by the kernel, because memory ran out, or by an "
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
        """Upload the output and set the status; retried while OMERO does not answer, unless the node stops."""
        if not self.job or not self.needs_report():
            return
        if self.reason:
            with self.stderr_path.open("a") as stderr:
                stderr.write(f"biomeroworker: {self.reason}\n")
        if self._node_stops:
            self.report_status_at_stop()
        for attempt in range(1, REPORT_ATTEMPTS + 1):
            client = self.tmp_client()
            if client is not None:
                try:
                    self.upload_output(client)
                    self.set_job_status(client)
                    return
                finally:
                    client.__del__()  # closes the session and ends its threads
            delay = backoff_delay(attempt, first=REPORT_INTERVAL_SECONDS, longest=REPORT_INTERVAL_SECONDS)
            if self._node_stops or attempt == REPORT_ATTEMPTS or self.stop_event.wait(delay):
                break
        self.logger.error("job %s: its output could not be uploaded to OMERO", self.job)

    def report_status_at_stop(self) -> None:
        """Set the job's status through the node's session: no login, which takes long on a busy machine."""
        try:
            session = self._node_session(recreate=False).ice_invocationTimeout(STOP_CALL_TIMEOUT_MS)
            self._set_status(session.createJobHandle().ice_invocationTimeout(STOP_CALL_TIMEOUT_MS), self.group)
        except Exception as error:  # with the output, it is set once more in the script's session
            self.logger.warning("job %s: its status could not be set in the node's session: %s", self.job, error)

    def tmp_client(self) -> Any:
        """A client to report the end: in the script's session or, if that has ended, in a new one of its owner."""
        client = super().tmp_client() or self._owner_client()
        if client is not None:
            client.ic.getProperties().setProperty("omero.job", self.job)
        return client

    def set_job_status(self, client: Any) -> None:
        """Set the job's final status, with the reason as its message."""
        self._set_status(client.sf.createJobHandle(), client.sf.getAdminService().getEventContext().groupId)

    def _set_status(self, job_handle: Any, group: int) -> None:
        handle = omero.processor.WithGroup(job_handle, group)
        status = self.final_status or ("Finished" if self.rcode == 0 else "Error")
        try:
            handle.attach(int(self.job))
            handle.setStatusAndMessage(status, rstring(self.reason[:MESSAGE_CHARACTERS]) if self.reason else None)
        finally:
            handle.close()

    # -- waiting in the queue -----------------------------------------------------------------------------------------

    def remove_from_queue(self, status: str, reason: str) -> bool:
        """Remove it from the queue and report that; returns False if it was not waiting there."""
        if not self._leave_queue(self):
            return False
        self.report_not_started(status, reason)
        return True

    @locked  # type: ignore[untyped-decorator]
    def report_not_started(self, status: str, reason: str) -> None:
        """Report that the script was never started."""
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
        """Stop it if it exceeds a limit; kill it if its time after a signal is over. ``now``: `time.monotonic`."""
        if not self._is_started or self.has_exited():
            return
        if self._kill_at is not None and now >= self._kill_at:
            seconds = f"{self.grace_seconds:.0f} s"
            self._kill(f"{self.reason or 'cancelled'}; killed, because it did not end within {seconds}")
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
                f"stopped after {node.script_hours:g} hours, the limit of {self._setting('script_hours')}; "
                "the run that it followed continues",
                HANGUP_GRACE_SECONDS,
            )

    def _setting(self, key: str) -> str:
        return self.settings.line("NODE", key)

    # -- stopping -----------------------------------------------------------------------------------------------------

    def hang_up(self, reason: str, grace_seconds: float) -> None:
        """Send SIGHUP: the run continues without its script. Does not wait."""
        self.signal_to_end, self.grace_seconds, self.reason = signal.SIGHUP, grace_seconds, reason
        self._kill_at = time.monotonic() + grace_seconds
        self._signal()

    def stop_with_node(self, grace_seconds: float) -> None:
        """Stop it because the node stops. Does not wait, unless the script has not been started."""
        self._node_stops = True
        not_started = self.remove_from_queue("Error", "not started, because the node stopped; start the script again")
        if not not_started and not self.has_exited():
            self.hang_up("stopped together with the node; the run that it followed continues", grace_seconds)

    def _kill(self, reason: str) -> None:
        self.reason, self._killed = reason, True
        self.logger.warning("job %s: %s", self.job, reason)
        process_tree.kill(self.pid)

    def _signal(self) -> None:
        if self._is_started and not self.has_exited():
            self.logger.info("job %s: sending %s", self.job, self.signal_to_end.name)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.signal_to_end)

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def cancel(self, current: Any = None) -> bool:
        """Cancel it for a user: remove it from the queue, or send SIGTERM, and SIGKILL after `grace_seconds`."""
        if self.alreadyDone() or self.remove_from_queue("Cancelled", "cancelled before it was started"):
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
        """Kill it for a client, without a signal before."""
        if self.alreadyDone() or self.remove_from_queue("Cancelled", "cancelled before it was started"):
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
        """Send the signal unless that was done, wait for the end, and kill it after `grace_seconds`."""
        if self.alreadyDone() or self.remove_from_queue("Cancelled", "cancelled before it was started"):
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
            time.sleep(_POLL_SECONDS)

    def _take_exit_code(self) -> bool:
        if self.rcode is None and self.popen is not None:
            self.rcode = self.popen.poll()
        return self.rcode is not None or self.popen is None

    @perf  # type: ignore[untyped-decorator]
    @remoted  # type: ignore[untyped-decorator]
    def wait(self, current: Any = None) -> int:
        """Wait for its end. A script that only names its parameters is killed after `parse_seconds`."""
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
            time.sleep(_POLL_SECONDS)

    # -- called by omero-py -------------------------------------------------------------------------------------------

    @perf  # type: ignore[untyped-decorator]
    def check(self) -> bool:
        """Whether its session still exists; called about every minute, which keeps the session alive."""
        try:
            self._node_session().getSessionService().getSession(self.uuid)
        except Exception as error:
            self.logger.info("job %s: its session has ended (%s)", self.job, type(error).__name__)
            return False
        return True

    @perf  # type: ignore[untyped-decorator]
    def cleanup(self) -> None:
        """Stop it because its session has ended or the node stops; waits for its end only if the node stops."""
        if self._node_stops or not self.wasActivated():
            self.deactivate()
        elif self.isActive() and not self.has_exited() and self._kill_at is None:
            self.hang_up(
                "stopped because its OMERO session ended (closed by the client, or after omero.scripts.timeout); "
                "the run that it followed continues",
                HANGUP_GRACE_SECONDS,
            )
        self.remove_from_queue("Error", "not started, because its OMERO session ended")
        self._close_session()
        if self.adapter is not None and not self._node_stops:  # without its session, clients can no longer call it
            self.ctx.servant_map.pop(self.prx, None)
            self.adapter.remove(self.prx.ice_getIdentity())
            self.adapter = None

    def _close_session(self) -> None:
        """Close the script's session, unless the caller of the script does that."""
        if not self.iskill:
            return
        try:
            close_session(self._node_session(recreate=False), self.uuid)
        except omero.ServerError as error:  # OMERO does not answer
            self.logger.debug("closing a session: %s", type(error).__name__)


class MatlabProcess(ScriptProcess, omero.processor.MATLABProcessI):  # type: ignore[misc]
    """A script in MATLAB."""
