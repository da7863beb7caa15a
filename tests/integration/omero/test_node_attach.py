"""A Processor that is attached to a running server: it serves scripts, distinguishes a cancel from a stop, unregisters.

No test depends on the speed of a script: each wait has the one limit `PATIENCE_SECONDS`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import omero.clients
import omero.scripts
import pytest
from omero.rtypes import rint, rlong, rstring

from biomeroworker.node import attach
from biomeroworker.node.sessions import close_session
from biomeroworker.omero.connection.session import OmeroSession
from tests.integration.omero.script_jobs import PATIENCE_SECONDS, final_status

SCRIPT = """
import os, signal, sys, time
import omero.scripts as scripts
from omero.rtypes import rstring
client = scripts.client("Signals", "reports signals", scripts.Long("Seconds", default=0, optional=True),
                        scripts.Long("Code", default=0, optional=True), scripts.String("Ready", optional=True),
                        scripts.String("Message").out())
ready = client.getInput("Ready", unwrap=True)
def write(text):
    if ready:
        with open(ready, "w") as file:
            file.write(text)
def exit_after(number, frame):
    write(signal.Signals(number).name)
    client.setOutput("Message", rstring("got " + signal.Signals(number).name))
    client.closeSession()
    sys.exit(0)
signal.signal(signal.SIGTERM, exit_after)
signal.signal(signal.SIGHUP, exit_after)
client.setOutput("Message", rstring(os.environ.get("BIOMERO_TEST", "") + " ready"))
print("some output")
write("ready")
time.sleep(client.getInput("Seconds", unwrap=True))
code = client.getInput("Code", unwrap=True)
client.closeSession()
sys.exit(code)
"""


@pytest.fixture
def login(server, person):
    return lambda: OmeroSession.login(server.host, server.port, person.name, person.password)


@pytest.fixture
def serving(login, monkeypatch):
    """A Processor of the person, in a thread; calling the fixture's value stops it."""
    monkeypatch.setenv("BIOMERO_TEST", "passed on")
    monkeypatch.setattr(attach, "CHECK_INTERVAL_SECONDS", 0.3)
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=attach.serve, args=(login, stop), kwargs={"ready": lambda session: ready.set()})
    thread.start()
    assert ready.wait(PATIENCE_SECONDS)

    def stop_serving():
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()

    yield stop_serving
    stop_serving()


@pytest.fixture
def script(session, serving):
    return session.sf.getScriptService().uploadScript("/test/signals.py", SCRIPT)


def start(session, script, *, patience=60, **inputs):
    given = {name: rlong(value) for name, value in inputs.items()}
    return session.sf.getScriptService().runScript(script, given, rint(patience))


def start_until_ready(session, script, ready):
    """Start a script that sleeps for ten minutes; return when its signal handlers are set."""
    given = {"Seconds": rlong(600), "Ready": rstring(str(ready))}
    process = session.sf.getScriptService().runScript(script, given, rint(60))
    end = time.monotonic() + PATIENCE_SECONDS
    while not ready.exists():
        assert time.monotonic() < end, "the script did not start"
        time.sleep(0.05)
    return process


def message(process):
    return process.getResults(0)["Message"].val


def test_parameters_are_parsed_and_a_job_ends_without_a_client_that_polls(session, script):
    params = session.sf.getScriptService().getParams(script)
    assert set(params.inputs) == {"Seconds", "Code", "Ready"}
    process = start(session, script)
    assert final_status(session, process) == "Finished"
    process.poll()
    results = process.getResults(0)
    assert results["Message"].val == "passed on ready"
    assert "stdout" in results
    process.close(False)


DYNAMIC = """
import os
import omero.constants.namespaces
import omero.scripts as scripts
names = os.listdir("{folder}")
client = scripts.client("Dynamic", "depends on a folder", *[scripts.Bool(name, optional=True) for name in names],
                        namespaces=[omero.constants.namespaces.NSDYNAMIC])
client.closeSession()
"""


def test_a_dialog_of_an_attached_processor_is_cached_and_refreshed(session, serving, tmp_path):
    service = session.sf.getScriptService()
    script = service.uploadScript(f"/test/dynamic_{time.monotonic_ns()}.py", DYNAMIC.format(folder=tmp_path))
    assert set(service.getParams(script).inputs) == set()
    (tmp_path / "Nuclei").touch()
    assert set(service.getParams(script).inputs) == set(), "from the cache"
    end = time.monotonic() + PATIENCE_SECONDS
    while set(service.getParams(script).inputs) != {"Nuclei"}:
        assert time.monotonic() < end, "the parse in the background changed nothing"
        time.sleep(0.5)


def test_a_script_that_fails_makes_its_job_an_error(session, script):
    process = start(session, script, Code=3)
    assert final_status(session, process) == "Error"
    process.close(False)


def test_a_cancel_reaches_the_script_and_the_job_is_cancelled(session, script, tmp_path):
    process = start_until_ready(session, script, tmp_path / "ready")
    process.cancel()
    assert final_status(session, process) == "Cancelled"
    process.poll()
    assert message(process) == "got SIGTERM"
    process.close(False)


def test_a_script_is_not_stopped_while_its_session_exists(session, login, tmp_path):
    attached = attach.Attached(login())
    script = session.sf.getScriptService().uploadScript("/test/session.py", SCRIPT)
    try:
        process = start_until_ready(session, script, tmp_path / "ready")
        (running,) = attached.processor._queue.running()
        assert running.check(), "omero-py stops a script for which this is false"
        close_session(session.sf, running.uuid)
        assert not running.check()
        process.cancel()
    finally:
        attached.close()


def test_after_a_stop_no_script_is_served(session, script, serving):
    serving()
    with pytest.raises((omero.NoProcessorAvailable, omero.ResourceError)):
        session.sf.getScriptService().runScript(script, {}, rint(1))


def test_the_processor_logs_in_again_when_its_session_is_closed(session, script, server, person):
    with server.root() as root:
        uuids = root.rows("select s.uuid from Session s where s.owner.id = :id and s.closed is null", id=person.id)
        mine = session.client.getSessionId()
        for (uuid,) in uuids:
            if uuid != mine:
                ended = omero.model.SessionI()
                ended.uuid = omero.rtypes.rstring(uuid)
                root.sf.getSessionService().closeSession(ended)
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            process = start(session, script, patience=3)  # fails until the Processor is registered again
            break
        except omero.ServerError:
            assert time.monotonic() < end, "the Processor did not log in again"
            time.sleep(0.5)
    assert final_status(session, process) == "Finished"
    process.close(False)


#: The node, with arguments as in `node_process`. Scripts get a minute to end, so that also a slow one gets to its exit.
SERVE = """
import signal, sys, threading
from biomeroworker.node import processor
from biomeroworker.node.attach import serve
from biomeroworker.omero.connection.session import OmeroSession
processor.STOP_GRACE_SECONDS, processor.STOP_SECONDS = 60.0, 90.0
host, port, user, password = sys.argv[1:]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
serve(lambda: OmeroSession.login(host, int(port), user, password), stop,
      ready=lambda session: print("ready", file=sys.stderr, flush=True))
"""


@contextlib.contextmanager
def node_process(command, environment=None):
    """Run a node as a process of its own until the end of the block."""
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as node:
        try:
            lines = iter(node.stderr.readline, "")
            assert any("ready" in line or "executing the scripts" in line for line in lines), "the node did not start"
            threading.Thread(target=list, args=(lines,), daemon=True).start()  # so that the pipe never fills
            yield node
        finally:
            node.kill()


def test_a_node_that_stops_sends_sighup_to_its_scripts_which_is_no_cancel(server, person, session, tmp_path):
    command = [sys.executable, "-c", SERVE, server.host, str(server.port), person.name, person.password]
    with node_process(command) as node:
        script = session.sf.getScriptService().uploadScript("/test/stopped.py", SCRIPT)
        process = start_until_ready(session, script, tmp_path / "ready")
        node.send_signal(signal.SIGTERM)
        node.wait(PATIENCE_SECONDS)
    assert final_status(session, process) == "Finished"
    assert (tmp_path / "ready").read_text() == "SIGHUP"


IGNORING = """
import signal, time
import omero.scripts as scripts
client = scripts.client("Ignoring", "ignores signals", scripts.Long("Seconds", optional=True),
                        scripts.String("Ready", optional=True))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with open(client.getInput("Ready", unwrap=True), "w") as file:
    file.write("ready")
time.sleep(client.getInput("Seconds", unwrap=True))
"""


def test_a_script_that_ignores_signals_is_killed_with_the_node_and_its_job_ends(server, person, session, tmp_path):
    login = {
        "OMERO_HOST": server.host,
        "OMERO_PORT": str(server.port),
        "OMERO_USER": person.name,
        "OMERO_PASSWORD": person.password,
    }
    command = [sys.executable, "-c", "from biomeroworker.cli import main; main()", "attach"]
    with node_process(command, login) as node:
        script = session.sf.getScriptService().uploadScript("/test/ignoring.py", IGNORING)
        process = start_until_ready(session, script, tmp_path / "ready")
        node.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        assert node.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - signalled < 10, "a node stops within 10 s"
    assert final_status(session, process) == "Error"
    ((message_of_job,),) = session.rows("select j.message from Job j where j.id = :id", id=process.getJob().id.val)
    assert message_of_job.startswith("stopped together with the node; the run that it followed continues")
    assert "killed, because it did not end within 3 s" in message_of_job
