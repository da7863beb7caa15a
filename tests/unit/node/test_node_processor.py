"""How a script's process ends, and with which reason (real processes, no server)."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import omero
import omero.clients  # loads omero-py in the order that it needs
import pytest
from omero_ext.path import path

from biomeroworker.config import Settings
from biomeroworker.node import process_tree, script_process
from biomeroworker.node.processor import Processor
from biomeroworker.node.script_process import MatlabProcess, ScriptProcess


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Context:
    """The attributes of omero-py's ServerContext that a process uses before it calls the server."""

    stop_event = threading.Event()
    communicator = None


class Client:
    """The client that reports the end of a script."""

    def __del__(self):
        pass


class NodeSession:
    """The Processor's session, and its job service; records the statuses that are set."""

    def __init__(self, reports):
        self.reports = reports

    def ice_invocationTimeout(self, milliseconds):  # noqa: N802  Ice's name
        return self

    def ice_getCommunicator(self):  # noqa: N802  Ice's name
        return self

    def getImplicitContext(self):  # noqa: N802  Ice's name
        return self

    def getContext(self):  # noqa: N802  Ice's name
        return {}

    def createJobHandle(self):  # noqa: N802  OMERO's name
        return self

    def attach(self, job, context):
        assert job == 1

    def setStatusAndMessage(self, status, message, context):  # noqa: N802  OMERO's name
        self.reports.append((status, message.val))

    def close(self, context):
        pass


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A function that starts a script as the Processor does, and the list of what was reported to the server."""
    reports = []
    monkeypatch.setattr(ScriptProcess, "tmp_client", lambda self: Client())
    monkeypatch.setattr(
        ScriptProcess, "set_job_status", lambda self, client: reports.append((self.final_status, self.rcode))
    )
    monkeypatch.setattr(
        ScriptProcess,
        "upload_output",
        lambda self, client: reports.append((self.stdout_path.text(), self.stderr_path.text())),
    )
    running = []

    def start(text, *, ini="", params=True, activate=True, **attributes):
        (tmp_path / "lib" / "server").mkdir(parents=True, exist_ok=True)
        (tmp_path / "node.ini").write_text(f"[NODE]\n{ini}\n")
        process = ScriptProcess(
            Context(), sys.executable, {"omero.user": "u", "omero.job": "1"}, object() if params else None,
            omero_home=path(str(tmp_path)),
            settings=Settings.load(tmp_path / "node.ini", {"HOME": str(tmp_path)}, standard=[]),
            leave_queue=lambda process: not process.wasActivated(), owner_client=lambda: None,
            node_session=lambda recreate=True: NodeSession(reports),
        )  # fmt: skip
        for name, value in attributes.items():
            setattr(process, name, value)
        process.script_path.write_text(text)
        if activate:
            process.activate()
            running.append(process)
            until(lambda: "ready" in process.stdout_path.text())
        return process

    yield start, reports
    for process in running:
        if process.popen is not None:
            process_tree.kill(process.pid)
            process.popen.wait()


def watched(process):
    """Do what the Processor does at each interval; returns whether the script's end was reported."""
    process.enforce_limits(time.monotonic())
    if process.has_exited():
        process.poll()
    return process.alreadyDone()


# os.write: the signal may arrive while print is still inside its buffer, which refuses a second print
PATIENT = """
import os, signal, sys, time
def ended(number, frame):
    os.write(1, f"got {signal.Signals(number).name}\\n".encode())
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, ended); signal.signal(signal.SIGHUP, ended)
print("ready", flush=True)
time.sleep(60)
"""
IGNORING = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_job_ends_when_its_script_ends_even_if_no_client_polls(started):
    start, reports = started
    process = start("print('ready')")
    until(lambda: watched(process))
    assert reports == [("ready\n", ""), (None, 0)]
    assert process.poll().val == 0


def test_a_users_cancel_reaches_the_script_as_sigterm_and_the_job_is_cancelled(started):
    start, reports = started
    process = start(PATIENT)
    assert process.cancel() is False
    until(lambda: watched(process))
    assert "got SIGTERM" in reports[0][0]
    assert reports[1] == ("Cancelled", 0)


def test_a_session_that_ended_reaches_the_script_as_sighup_and_is_no_cancel(started):
    start, reports = started
    process = start(PATIENT)
    process.cleanup()
    assert not process.alreadyDone(), "cleanup does not wait, because omero-py holds a lock while it runs"
    until(lambda: watched(process))
    assert "got SIGHUP" in reports[0][0]
    assert reports[0][1].endswith("the run that it followed continues\n")
    assert reports[1] == (None, 0)


@pytest.mark.parametrize("how", ["shutdown", "cancel"])
def test_a_cancelled_script_that_does_not_end_is_killed_after_its_grace(started, how):
    start, reports = started
    process = start(IGNORING, grace_seconds=0.3)
    cancelled = time.monotonic()
    getattr(process, how)()
    until(lambda: watched(process))
    assert time.monotonic() - cancelled >= 0.3
    assert reports[0][1] == "biomeroworker: cancelled; killed, because it did not end within 0 s\n"
    assert reports[1] == ("Cancelled", -signal.SIGKILL)


KILLED_AT_STOP = (
    "stopped together with the node; the run that it followed continues; killed, because it did not end within 0 s"
)


def test_a_script_that_is_killed_when_the_node_stops_gets_its_status_before_its_output_is_uploaded(started):
    start, reports = started
    process = start(IGNORING)
    process.stop_with_node(0.2)
    process.cleanup()
    assert reports == [
        ("Error", KILLED_AT_STOP),
        ("ready\n", f"biomeroworker: {KILLED_AT_STOP}\n"),
        (None, -signal.SIGKILL),
    ]


def test_a_script_that_is_killed_when_the_node_stops_gets_its_status_though_its_session_has_ended(started, monkeypatch):
    start, reports = started
    monkeypatch.setattr(ScriptProcess, "tmp_client", lambda self: None)
    process = start(IGNORING)
    process.stop_with_node(0.2)
    process.cleanup()
    assert reports == [("Error", KILLED_AT_STOP)]


def test_a_script_that_ended_just_before_the_node_stops_is_reported_without_a_reason(started, monkeypatch):
    start, reports = started
    monkeypatch.setattr(ScriptProcess, "report_status_at_stop", lambda self: reports.append("status first"))
    process = start("print('ready')")
    until(process.has_exited)
    process.stop_with_node(0.2)
    process.cleanup()
    assert reports == ["status first", ("ready\n", ""), (None, 0)]


def test_a_script_that_is_being_started_does_not_count_as_ended(started):
    start, reports = started
    process = start(PATIENT, activate=False)
    assert not watched(process)
    assert not process.has_exited()
    assert reports == []


def test_a_script_that_is_being_started_when_the_node_stops_gets_its_signal_afterwards(started):
    start, reports = started
    process = start(PATIENT, activate=False)
    process._leave_queue = lambda process: False  # the Processor has taken it from the queue
    popen = process.Popen

    def stop_meanwhile(*arguments, **more):
        process.stop_with_node(20)
        return popen(*arguments, **more)

    process.Popen = stop_meanwhile
    process.activate()
    process.cleanup()
    assert process.rcode is not None
    assert "stopped together with the node" in reports[1][1]


def test_no_script_is_started_after_the_node_began_to_stop(started):
    start, _ = started
    process = start(PATIENT, activate=False)
    process.stop_with_node(0.2)
    with pytest.raises(RuntimeError, match="the node is stopping"):
        process.activate()


def test_kill_is_followed_by_the_jobs_end_and_its_output(started):
    start, reports = started
    process = start(IGNORING)
    process.kill()
    until(lambda: watched(process))
    assert reports == [
        ("ready\n", "biomeroworker: killed at the request of a client\n"),
        ("Cancelled", -signal.SIGKILL),
    ]


def test_the_last_line_of_stderr_explains_a_sigkill_from_outside(started):
    start, reports = started
    process = start(IGNORING)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: watched(process))
    line = reports[0][1].splitlines()[-1]
    assert "SIGKILL" in line
    assert "[NODE] script_memory_gb" in line
    assert reports[1] == (None, -signal.SIGKILL)


HUNGRY_CHILD = """
import subprocess, sys, time
child = "import time; data = bytearray(300_000_000); data[::4096] = b'x' * len(data[::4096]); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child])
print("ready", flush=True)
time.sleep(60)
"""


def test_a_script_whose_child_exceeds_the_memory_limit_is_killed_with_the_child(started, tmp_path):
    start, reports = started
    process = start(HUNGRY_CHILD, ini="script_memory_gb = 0.2")
    until(lambda: watched(process), 20)
    line = reports[0][1].splitlines()[-1]
    assert "GB of memory with the 1 processes" in line
    assert f"the limit is 0.20 GB, {tmp_path}/node.ini:2: [NODE] script_memory_gb" in line
    assert reports[1] == (None, -signal.SIGKILL)
    until(lambda: not process_tree.members(process.pid))


def test_a_script_below_its_memory_limit_is_not_killed(started):
    start, _ = started
    process = start(HUNGRY_CHILD, ini="script_memory_gb = 2")
    until(lambda: process_tree.used_bytes(process_tree.members(process.pid)) > 300e6, 20)
    assert not watched(process)


def test_a_script_that_runs_too_long_gets_sighup_first(started, tmp_path):
    start, reports = started
    process = start(PATIENT, ini="script_hours = 0.0001")
    until(lambda: watched(process))
    assert "got SIGHUP" in reports[0][0]
    assert f"{tmp_path}/node.ini:2: [NODE] script_hours; the run that it followed continues" in reports[0][1]


def test_a_script_that_hangs_in_parse_mode_is_killed(started):
    start, reports = started
    assert start(IGNORING, params=False, ini="parse_seconds = 0.3").wait() == -signal.SIGKILL
    assert "[NODE] parse_seconds" in reports[0][1]


def test_a_waiting_script_is_cancelled_at_once(started):
    start, reports = started
    process = start(PATIENT, activate=False)
    assert process.poll() is None
    assert process.cancel() is True
    assert process.poll().val == -signal.SIGTERM
    assert reports == [("", "biomeroworker: cancelled before it was started\n"), ("Cancelled", -signal.SIGTERM)]
    assert process.cancel() is True
    assert len(reports) == 2


def test_a_waiting_script_gets_its_status_when_the_node_stops(started):
    start, reports = started
    start(PATIENT, activate=False).stop_with_node(3)
    message = "not started, because the node stopped; start the script again"
    assert reports == [
        ("Error", message),
        ("", f"biomeroworker: {message}\n"),
        ("Error", -signal.SIGTERM),
    ]


def test_the_kernel_ends_a_script_before_the_node_when_memory_runs_out(started):
    start, _ = started
    process = start(IGNORING)
    assert int(Path(f"/proc/{process.pid}/oom_score_adj").read_text()) == process_tree.OOM_SCORE


def test_the_report_of_the_end_is_retried_until_omero_answers(started, monkeypatch):
    start, reports = started
    monkeypatch.setattr(script_process, "REPORT_INTERVAL_SECONDS", 0.01)
    clients = [None, None, Client()]
    monkeypatch.setattr(ScriptProcess, "tmp_client", lambda self: clients.pop(0))
    process = start("print('ready')")
    until(lambda: watched(process))
    assert reports[1] == (None, 0)


def test_concurrent_waits_for_a_process_report_its_end_once(started):
    start, reports = started
    process = start("print('ready')")
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert codes == [0] * 6
    assert len(reports) == 2


class Current:
    def __init__(self, name):
        self.ctx = {"omero.launcher": "", "omero.process": name}


@pytest.mark.parametrize("name", ["", "omero.process.ProcessI", "omero.processor.ProcessI"])
def test_the_names_of_the_stock_process_class_stand_for_ours(name):
    launcher, kind = Processor.find_launcher(Processor.__new__(Processor), Current(name))
    assert launcher == sys.executable
    assert kind is ScriptProcess


def test_matlab_scripts_have_the_same_limits_and_other_classes_are_refused():
    processor = Processor.__new__(Processor)
    _, kind = processor.find_launcher(Current("omero.processor.MATLABProcessI"))
    assert kind is MatlabProcess
    assert issubclass(kind, ScriptProcess)
    with pytest.raises(omero.ApiUsageException, match=r"os\.system"):
        processor.find_launcher(Current("os.system"))
