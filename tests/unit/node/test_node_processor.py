"""What scripts get of the node's environment, and how a script's process ends (real processes, no server)."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import omero.clients  # noqa: F401  loads omero-py in the order that it needs
import pytest
from omero_ext.path import path

from biomeroworker.node import processor
from biomeroworker.node.processor import Process, Processor, script_environment


def test_scripts_see_proxies_and_configuration_but_no_password():
    given = {
        "HTTPS_PROXY": "p",
        "BIOMERO_CONFIG": "c",
        "SQLALCHEMY_URL": "u",
        "OMERO_HOST": "h",
        "OMERO_PASSWORD": "secret",
        "OMERO_ROOT_PASSWORD": "secret",
        "AWS_SECRET": "secret",
    }
    assert script_environment(given) == {
        "HTTPS_PROXY": "p",
        "BIOMERO_CONFIG": "c",
        "SQLALCHEMY_URL": "u",
        "OMERO_HOST": "h",
    }


def test_a_site_adds_names_of_its_own_but_never_the_password():
    given = {
        "BIOMEROWORKER_SCRIPT_ENVIRONMENT": "LAB_*, TOKEN,OMERO_*",
        "LAB_A": "1",
        "TOKEN": "2",
        "OMERO_PASSWORD": "s",
    }
    assert set(script_environment(given)) == {"LAB_A", "TOKEN", "BIOMEROWORKER_SCRIPT_ENVIRONMENT"}


def test_icegrid_finds_our_module_first_and_scripts_do_not_find_our_rooms_by_bare_names():
    here = str(Path(processor.__file__).parent)
    code = "import runProcessor, sys; print(runProcessor.__file__); print(any('node' in p for p in sys.path[1:]))"
    environment = {**os.environ, "PYTHONPATH": here}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/")
    assert found.stdout.split() == [f"{here}/runProcessor.py", "False"]
    assert processor.without_node(f"{here}:/a::/b") == "/a:/b"


class Context:
    """As much of omero-py's ServerContext as a process touches before it has a server to talk to."""

    stop_event = threading.Event()
    communicator = None


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start a script as the Processor does; what would go to the server is kept."""
    told = []
    monkeypatch.setattr(Process, "tmp_client", lambda self: None)
    monkeypatch.setattr(Process, "set_job_status", lambda self, client: told.append((self.final_status, self.rcode)))
    monkeypatch.setattr(Process, "upload_output", lambda self, client: told.append(self.stdout_path.text()))
    running = []

    def start(text, **settings):
        (tmp_path / "lib" / "server").mkdir(parents=True, exist_ok=True)
        process = Process(
            Context(), sys.executable, {"omero.user": "u", "omero.job": "1"}, settings.pop("params", object()),
            omero_home=path(str(tmp_path)),
        )  # fmt: skip
        for name, value in settings.items():
            setattr(process, name, value)
        process.script_path.write_text(text)
        process.activate()
        running.append(process)
        for _ in range(200):
            if "ready" in process.stdout_path.text():
                break
            time.sleep(0.02)
        return process

    yield start, told
    for process in running:
        if process.popen is not None:
            process.popen.kill(True)
            process.popen.wait()


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


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_a_job_ends_when_its_script_ends_though_nobody_asks(started):
    start, told = started
    process = start("print('ready')")
    until(process.watch)
    assert told == [(None, 0), "ready\n"]
    assert process.poll().val == 0


def test_a_users_cancel_reaches_the_script_as_sigterm_and_the_job_is_cancelled(started):
    start, told = started
    process = start(PATIENT)
    assert process.cancel() is False
    until(process.watch)
    assert told[0] == ("Cancelled", 0)
    assert "got SIGTERM" in told[1]


def test_a_session_that_ended_reaches_the_script_as_sighup_and_is_no_cancel(started):
    start, told = started
    process = start(PATIENT)
    process.cleanup()
    assert told[0] == (None, 0)
    assert "got SIGHUP" in told[1]


def test_a_script_that_does_not_listen_is_killed_after_its_grace(started):
    start, told = started
    process = start(DEAF, grace=0.3)
    begun = time.monotonic()
    process.shutdown()
    assert 0.3 <= time.monotonic() - begun < 3
    until(process.watch)
    assert told[0] == ("Cancelled", -signal.SIGKILL)


def test_kill_is_followed_by_the_jobs_end_and_its_output(started):
    start, told = started
    process = start(DEAF)
    process.kill()
    until(process.watch)
    assert told == [("Cancelled", -signal.SIGKILL), "ready\n"]


def test_a_script_that_hangs_over_its_parameters_is_ended(started, monkeypatch):
    monkeypatch.setattr(processor, "PARSE_LIMIT", 0.3)
    start, _ = started
    assert start(DEAF, params=None).wait() == -signal.SIGKILL


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


@pytest.mark.parametrize("asked", ["", "omero.process.ProcessI", "omero.processor.ProcessI"])
def test_what_servers_call_the_stock_process_is_ours(asked):
    class Current:
        ctx = {"omero.launcher": "", "omero.process": asked}  # noqa: RUF012

    launcher, kind = Processor.find_launcher(Processor.__new__(Processor), Current())
    assert launcher == sys.executable
    assert kind is Process
