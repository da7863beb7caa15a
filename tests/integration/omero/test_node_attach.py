"""Our Processor beside a running server: it serves, it tells a cancel from a stop, it goes without a trace."""

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
from biomeroworker.omero.connection.session import OmeroSession

SCRIPT = """
import os, signal, sys, time
import omero.scripts as scripts
from omero.rtypes import rstring
client = scripts.client("Told", "says what it is told", scripts.Long("Seconds", default=0, optional=True),
                        scripts.Long("Code", default=0, optional=True), scripts.String("Ready", optional=True),
                        scripts.String("Message").out())
ready = client.getInput("Ready", unwrap=True)
def say(word):
    if ready:
        with open(ready, "w") as file:
            file.write(word)
def ended(number, frame):
    say(signal.Signals(number).name)
    client.setOutput("Message", rstring("got " + signal.Signals(number).name))
    client.closeSession()
    sys.exit(0)
signal.signal(signal.SIGTERM, ended)
signal.signal(signal.SIGHUP, ended)
client.setOutput("Message", rstring(os.environ.get("BIOMERO_TEST", "") + " ready"))
print("some output")
say("ready")
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
    """A Processor of the person, in a thread; calling it ends it."""
    monkeypatch.setenv("BIOMERO_TEST", "passed on")
    monkeypatch.setattr(attach, "CHECK", 0.3)
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=attach.serve, args=(login, stop), kwargs={"ready": lambda session: ready.set()})
    thread.start()
    assert ready.wait(20)

    def leave():
        stop.set()
        thread.join(30)
        assert not thread.is_alive()

    yield leave
    leave()


@pytest.fixture
def script(session, serving):
    return session.sf.getScriptService().uploadScript("/test/told.py", SCRIPT)


def start(session, script, *, patience=15, **inputs):
    given = {name: rlong(value) for name, value in inputs.items()}
    return session.sf.getScriptService().runScript(script, given, rint(patience))


def start_and_wait(session, script, ready):
    """Start a script that goes on for a minute; return when it listens to signals."""
    given = {"Seconds": rlong(60), "Ready": rstring(str(ready))}
    process = session.sf.getScriptService().runScript(script, given, rint(15))
    end = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < end, "the script did not come so far"
        time.sleep(0.05)
    return process


def finished(session, process, seconds=120):
    """The job's status once it is over, without ever asking the process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = session.rows("select s.value from Job j join j.status s where j.id = :id", id=process.getJob().id.val)[
            0
        ][0]
        if status not in ("Waiting", "Running", "Submitted"):
            return status
        time.sleep(0.2)
    pytest.fail("the job did not end")
    return ""


def message(process):
    return process.getResults(0)["Message"].val


def test_parameters_are_asked_for_and_a_job_ends_though_nobody_polls(session, script):
    params = session.sf.getScriptService().getParams(script)
    assert set(params.inputs) == {"Seconds", "Code", "Ready"}
    process = start(session, script)
    assert finished(session, process) == "Finished"
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
    begun = time.monotonic()
    assert set(service.getParams(script).inputs) == set(), "from the cache"
    assert time.monotonic() - begun < 0.5
    end = time.monotonic() + 30
    while set(service.getParams(script).inputs) != {"Nuclei"}:
        assert time.monotonic() < end, "the parse in the background changed nothing"
        time.sleep(0.5)


def test_a_script_that_fails_is_a_job_in_error(session, script):
    process = start(session, script, Code=3)
    assert finished(session, process) == "Error"
    process.close(False)


def test_a_cancel_reaches_the_script_and_the_job_is_cancelled(session, script, tmp_path):
    process = start_and_wait(session, script, tmp_path / "ready")
    process.cancel()
    assert finished(session, process) == "Cancelled"
    process.poll()
    assert message(process) == "got SIGTERM"
    process.close(False)


def test_after_it_has_gone_nobody_answers(session, script, serving):
    serving()
    with pytest.raises((omero.NoProcessorAvailable, omero.ResourceError)):
        session.sf.getScriptService().runScript(script, {}, rint(1))


def test_it_comes_back_when_its_session_is_ended(session, script, server, person):
    with server.root() as root:
        uuids = root.rows("select s.uuid from Session s where s.owner.id = :id and s.closed is null", id=person.id)
        mine = session.client.getSessionId()
        for (uuid,) in uuids:
            if uuid != mine:
                ended = omero.model.SessionI()
                ended.uuid = omero.rtypes.rstring(uuid)
                root.sf.getSessionService().closeSession(ended)
    end = time.monotonic() + 30
    while True:
        try:
            process = start(session, script, patience=1)  # nobody may be there yet
            break
        except omero.ServerError:
            assert time.monotonic() < end, "it did not come back"
            time.sleep(0.5)
    assert finished(session, process) == "Finished"
    process.close(False)


SERVE = """
import signal, sys, threading
from biomeroworker.node.attach import serve
from biomeroworker.omero.connection.session import OmeroSession
host, port, user, password = sys.argv[1:]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
serve(lambda: OmeroSession.login(host, int(port), user, password), stop, ready=lambda s: print("ready", flush=True))
"""


def test_a_node_that_stops_tells_its_scripts_so_and_it_is_no_cancel(server, person, session, tmp_path):
    command = [sys.executable, "-c", SERVE, server.host, str(server.port), person.name, person.password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as node:
        assert node.stdout.readline() == "ready\n"
        script = session.sf.getScriptService().uploadScript("/test/stopped.py", SCRIPT)
        process = start_and_wait(session, script, tmp_path / "ready")
        node.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        node.wait(20)
        assert time.monotonic() - begun < 10
    assert finished(session, process) == "Finished"
    assert (tmp_path / "ready").read_text() == "SIGHUP", "a stop, not a cancel"
