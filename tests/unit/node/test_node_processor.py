"""How a script's process ends, and why it is ended (real processes, no server)."""

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


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


class Context:
    """As much of omero-py's ServerContext as a process touches before it has a server to talk to."""

    stop_event = threading.Event()
    communicator = None


class Client:
    """What reports the end of a script."""

    def __del__(self):
        pass


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start a script as the Processor does; what would go to the server is kept."""
    told = []
    monkeypatch.setattr(ScriptProcess, "tmp_client", lambda self: Client())
    monkeypatch.setattr(
        ScriptProcess, "set_job_status", lambda self, client: told.append((self.final_status, self.rcode))
    )
    monkeypatch.setattr(
        ScriptProcess,
        "upload_output",
        lambda self, client: told.append((self.stdout_path.text(), self.stderr_path.text())),
    )
    running = []

    def start(text, *, ini="", params=True, activate=True, **attributes):
        (tmp_path / "lib" / "server").mkdir(parents=True, exist_ok=True)
        (tmp_path / "node.ini").write_text(f"[NODE]\n{ini}\n")
        process = ScriptProcess(
            Context(), sys.executable, {"omero.user": "u", "omero.job": "1"}, object() if params else None,
            omero_home=path(str(tmp_path)),
            settings=Settings.load(tmp_path / "node.ini", {"HOME": str(tmp_path)}, standard=[]),
            leave_queue=lambda process: not process.wasActivated(),
        )  # fmt: skip
        for name, value in attributes.items():
            setattr(process, name, value)
        process.script_path.write_text(text)
        if activate:
            process.activate()
            running.append(process)
            until(lambda: "ready" in process.stdout_path.text())
        return process

    yield start, told
    for process in running:
        if process.popen is not None:
            process_tree.kill(process.pid)
            process.popen.wait()


def watched(process):
    """One look of the Processor; whether the script's end was reported."""
    process.enforce_limits(time.monotonic())
    if process.has_exited():
        process.poll()
    return process.alreadyDone()


PATIENT = """
import signal, sys, time
def ended(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    time.sleep(0.3)
    sys.exit(0)
signal.signal(signal.SIGTERM, ended); signal.signal(signal.SIGHUP, ended)
print("ready", flush=True)
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def test_a_job_ends_when_its_script_ends_though_no_client_asks(started):
    start, told = started
    process = start("print('ready')")
    until(lambda: watched(process))
    assert told == [("ready\n", ""), (None, 0)]
    assert process.poll().val == 0


def test_a_users_cancel_reaches_the_script_as_sigterm_and_the_job_is_cancelled(started):
    start, told = started
    process = start(PATIENT)
    assert process.cancel() is False
    until(lambda: watched(process))
    assert "got SIGTERM" in told[0][0]
    assert told[1] == ("Cancelled", 0)


def test_a_session_that_ended_reaches_the_script_as_sighup_and_is_no_cancel(started):
    start, told = started
    process = start(PATIENT)
    begun = time.monotonic()
    process.cleanup()
    assert time.monotonic() - begun < 0.25, "omero-py holds a lock meanwhile"
    until(lambda: watched(process))
    assert "got SIGHUP" in told[0][0]
    assert told[0][1].endswith("a run that it followed goes on\n")
    assert told[1] == (None, 0)


@pytest.mark.parametrize("how", ["shutdown", "cancel"])
def test_a_cancelled_script_that_does_not_end_is_killed_after_its_grace(started, how):
    start, told = started
    process = start(DEAF, grace_seconds=0.3)
    begun = time.monotonic()
    getattr(process, how)()
    until(lambda: watched(process))
    assert 0.3 <= time.monotonic() - begun < 3
    assert told[0][1] == "biomeroworker: cancelled; it did not end within 0 s and was killed\n"
    assert told[1] == ("Cancelled", -signal.SIGKILL)


def test_the_output_is_kept_when_the_node_stops(started):
    start, told = started
    process = start(DEAF.replace("SIGTERM", "SIGHUP"))
    process.stop_with_node(0.2)
    process.cleanup()
    assert told[0][0] == "ready\n"
    assert "the node stopped" in told[0][1]
    assert told[1] == (None, -signal.SIGKILL)


def test_kill_is_followed_by_the_jobs_end_and_its_output(started):
    start, told = started
    process = start(DEAF)
    process.kill()
    until(lambda: watched(process))
    assert told == [
        ("ready\n", "biomeroworker: killed at the request of a client\n"),
        ("Cancelled", -signal.SIGKILL),
    ]


def test_a_sigkill_from_outside_is_explained_in_the_last_line_of_stderr(started):
    start, told = started
    process = start(DEAF)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: watched(process))
    line = told[0][1].splitlines()[-1]
    assert "SIGKILL" in line
    assert "[NODE] script_memory_gb" in line
    assert told[1] == (None, -signal.SIGKILL)


HUNGRY_CHILD = """
import subprocess, sys, time
child = "import time; kept = bytearray(300_000_000); kept[::4096] = b'x' * len(kept[::4096]); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child])
print("ready", flush=True)
time.sleep(60)
"""


def test_a_script_whose_child_eats_memory_is_killed_with_the_child(started, tmp_path):
    start, told = started
    process = start(HUNGRY_CHILD, ini="script_memory_gb = 0.2")
    until(lambda: watched(process), 20)
    line = told[0][1].splitlines()[-1]
    assert "GB of memory with the 1 processes" in line
    assert f"the limit is 0.20 GB, {tmp_path}/node.ini:2: [NODE] script_memory_gb" in line
    assert told[1] == (None, -signal.SIGKILL)
    until(lambda: not process_tree.members(process.pid))


def test_a_script_below_its_limit_is_left_alone(started):
    start, _ = started
    process = start(HUNGRY_CHILD, ini="script_memory_gb = 2")
    until(lambda: process_tree.used_bytes(process_tree.members(process.pid)) > 300e6, 20)
    assert not watched(process)


def test_a_script_that_runs_too_long_gets_sighup_first(started, tmp_path):
    start, told = started
    process = start(PATIENT, ini="script_hours = 0.0001")
    until(lambda: watched(process))
    assert "got SIGHUP" in told[0][0]
    assert f"{tmp_path}/node.ini:2: [NODE] script_hours; a run that it followed goes on" in told[0][1]


def test_a_script_that_hangs_when_it_is_asked_for_its_parameters_is_killed(started):
    start, told = started
    assert start(DEAF, params=False, ini="parse_seconds = 0.3").wait() == -signal.SIGKILL
    assert "[NODE] parse_seconds" in told[0][1]


def test_a_waiting_script_is_cancelled_at_once(started):
    start, told = started
    process = start(PATIENT, activate=False)
    assert process.poll() is None
    assert process.cancel() is True
    assert process.poll().val == -signal.SIGTERM
    assert told == [("", "biomeroworker: cancelled before it was started\n"), ("Cancelled", -signal.SIGTERM)]
    assert process.cancel() is True
    assert len(told) == 2


def test_a_waiting_script_whose_node_stops_says_so(started):
    start, told = started
    start(PATIENT, activate=False).stop_with_node(3)
    assert "the node stopped first" in told[0][1]
    assert told[1][0] == "Error"


def test_the_kernel_ends_a_script_before_the_node_when_memory_runs_out(started):
    start, _ = started
    process = start(DEAF)
    assert int(Path(f"/proc/{process.pid}/oom_score_adj").read_text()) == process_tree.OOM_SCORE


def test_the_end_is_reported_again_when_omero_was_away(started, monkeypatch):
    start, told = started
    monkeypatch.setattr(script_process, "REPORT_INTERVAL_SECONDS", 0.01)
    clients = [None, None, Client()]
    monkeypatch.setattr(ScriptProcess, "tmp_client", lambda self: clients.pop(0))
    process = start("print('ready')")
    until(lambda: watched(process))
    assert told[1] == (None, 0)


def test_many_may_ask_at_the_same_moment(started):
    start, told = started
    process = start("print('ready')")
    codes = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert codes == [0] * 6
    assert len(told) == 2


class Current:
    def __init__(self, name):
        self.ctx = {"omero.launcher": "", "omero.process": name}


@pytest.mark.parametrize("name", ["", "omero.process.ProcessI", "omero.processor.ProcessI"])
def test_what_servers_call_the_stock_process_is_ours(name):
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
