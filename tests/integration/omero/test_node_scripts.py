"""Scripts on a node of the grid, through OMERO's API: many at once, limits, cancels, and dialogs from the cache.

The scripts are *dynamic*: OMERO caches the parameters of all others, and parses these each time.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import omero.clients
import pytest
from omero.rtypes import rint, rlong, rstring

from biomeroworker.node import process_tree
from biomeroworker.omero.connection.session import OmeroSession
from sandbox.deployment import config_path
from sandbox.parts.grid import Processor, icegridadmin
from sandbox.root import Root
from tests.integration.omero.script_jobs import final_status

SCRIPT = """
import os, signal, subprocess, sys, time
import omero.scripts as scripts
from omero.rtypes import rstring
datasets = os.environ.get("BIOMERO_TEST_FOLDER", "{folder}")
names = sorted(os.listdir(datasets)) if os.path.isdir(datasets) else []
client = scripts.client("Waits", "{text}", scripts.Long("Seconds", default=0, optional=True),
                        scripts.Long("Eat", default=0, optional=True), scripts.String("Ready", optional=True),
                        *[scripts.Bool(name, optional=True) for name in names],
                        namespaces=["openmicroscopy.org/omero/scripts/job/dynamic"])
def value(name):
    return client.getInput(name, unwrap=True)
ready = value("Ready")
def ended(number, frame):
    with open(ready, "w") as file:
        file.write("got " + signal.Signals(number).name)
    client.closeSession()
    sys.exit(0)
if ready:
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGHUP, ended)
    with open(ready, "w") as file:
        file.write("ready")
print("some output", flush=True)
if value("Eat"):
    eat = f"import time; data = bytearray({{value('Eat')}}); data[::4096] = b'x' * len(data[::4096]); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", eat])
    time.sleep(60)
time.sleep(value("Seconds") or 0)
client.closeSession()
"""


@pytest.fixture(scope="module")
def node(sandbox):
    if os.environ.get("OMERO_HOST"):
        pytest.skip("the grid of a server that exists is not ours to configure")
    sandbox.up("glacier2", "processor")
    part = Processor(Root(sandbox.path))
    icegridadmin(part, "server enable Processor-0")
    return part


@pytest.fixture
def setting(sandbox, node):
    """Add settings of the node to its file, which takes effect without a restart."""
    file = Path(config_path(sandbox.path))
    file.parent.mkdir(exist_ok=True)
    before = file.read_text() if file.exists() else ""

    def change(*lines):
        file.write_text(before + "\n[NODE]\n" + "\n".join(lines) + "\n")
        time.sleep(2)  # the node looks once per second

    yield change
    file.write_text(before)
    time.sleep(2)


@pytest.fixture
def upload(server, node, tmp_path):
    """Upload a script of this test's own; returns its id."""

    def upload(text="sleeps as long as its parameter"):
        with server.root() as root:
            path = f"/test/node_{time.monotonic_ns()}.py"
            return root.sf.getScriptService().uploadOfficialScript(
                path, SCRIPT.format(folder=tmp_path / "names", text=text)
            )

    return upload


def start(session, script, *, ready="", **numbers):
    given = {name: rlong(value) for name, value in numbers.items()}
    if ready:
        given["Ready"] = rstring(str(ready))
    return session.sf.getScriptService().runScript(script, given, rint(60))


def job_of(session, process):
    """Status and message."""
    hql = "select s.value, j.message from Job j join j.status s where j.id = :id"
    return session.rows(hql, id=process.getJob().id.val)[0]


def stream(session, process, name):
    """What was uploaded of a stream, for a job that has ended."""
    hql = (
        "select f.id from JobOriginalFileLink l join l.child f where l.parent.id = :id and f.name = '"
        + name
        + "' order by f.id desc"
    )
    end = time.monotonic() + 10
    while not (found := session.rows(hql, id=process.getJob().id.val)):
        assert time.monotonic() < end, f"there is no {name}"
        time.sleep(0.2)
    store = session.sf.createRawFileStore()
    try:
        store.setFileId(found[0][0])
        return store.read(0, int(store.size())).decode()
    finally:
        store.close()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_fifty_scripts_at_once_are_all_done(server, person, upload, setting):
    setting("scripts_at_once = 6")
    script = upload()

    def run(number):
        with OmeroSession.login(server.host, server.port, person.name, person.password) as session:
            process = start(session, script)
            try:
                return final_status(session, process, 240)
            finally:
                process.close(True)

    started = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        ended = list(pool.map(run, range(50)))
    print(f"50 scripts at once: {time.monotonic() - started:.1f} s")
    assert ended == ["Finished"] * 50


def test_a_script_above_the_limit_waits_with_a_message_and_starts_in_order(session, upload, setting, tmp_path):
    setting("scripts_at_once = 1")
    script = upload()
    first = start(session, script, ready=tmp_path / "first", Seconds=60)
    until((tmp_path / "first").exists)
    second = start(session, script, ready=tmp_path / "second")
    third = start(session, script, ready=tmp_path / "third")
    status, message = job_of(session, second)
    assert status != "Running"
    assert message.startswith("In the queue: 1 scripts run at the same time, 0 scripts wait before this one.")
    assert "[NODE] scripts_at_once" in message
    assert job_of(session, third)[1].startswith(
        "In the queue: 1 scripts run at the same time, 1 scripts wait before this one."
    )
    assert second.poll() is None
    started = time.monotonic()
    assert set(session.sf.getScriptService().getParams(upload("another")).inputs) == {"Seconds", "Eat", "Ready"}
    assert time.monotonic() - started < 20, "parameters do not wait behind scripts that run"
    assert not (tmp_path / "second").exists()
    started = time.monotonic()
    assert second.cancel()
    assert final_status(session, second) == "Cancelled"
    assert time.monotonic() - started < 5, "a waiting script is cancelled at once"
    assert "cancelled before it was started" in stream(session, second, "stderr")
    assert not (tmp_path / "third").exists()
    first.cancel()
    assert final_status(session, first) == "Cancelled"
    assert (tmp_path / "first").read_text() == "got SIGTERM"
    assert final_status(session, third) == "Finished"
    assert (tmp_path / "third").exists()
    assert not (tmp_path / "second").exists(), "a cancelled script was started all the same"
    for process in (first, second, third):
        process.close(False)


def test_a_script_above_the_memory_limit_is_ended_and_the_node_continues(session, upload, setting, node):
    setting("script_memory_gb = 0.4")
    script = upload()
    before = node.pid()
    process = start(session, script, Eat=900_000_000)
    assert final_status(session, process, 60) == "Error"
    assert "GB of memory with the 1 processes" in stream(session, process, "stderr").splitlines()[-1]
    assert "[NODE] script_memory_gb" in job_of(session, process)[1]
    assert stream(session, process, "stdout") == "some output\n"
    process.close(False)
    other = start(session, script)
    assert final_status(session, other) == "Finished"
    other.close(False)
    assert node.pid() == before


def test_the_output_of_a_killed_script_is_uploaded(session, upload, node, tmp_path):
    process = start(session, upload(), ready=tmp_path / "ready", Seconds=60)
    until((tmp_path / "ready").exists)
    pids = [pid for pid in process_tree.members(node.pid()) if "./script" in command_of(pid)]
    os.kill(pids[-1], 9)
    assert final_status(session, process) == "Error"
    assert stream(session, process, "stdout") == "some output\n"
    assert "killed with SIGKILL, not by this node" in stream(session, process, "stderr").splitlines()[-1]
    process.close(False)


def test_the_output_of_a_script_with_a_closed_session_is_uploaded(session, upload, tmp_path):
    process = start(session, upload(), ready=tmp_path / "ready", Seconds=60)
    until((tmp_path / "ready").exists)
    job = process.getJob()
    process.close(False)  # OMERO ends the session of the script with it
    closed = SimpleNamespace(getJob=lambda: job)
    assert final_status(session, closed) == "Cancelled"
    assert (tmp_path / "ready").read_text() == "got SIGTERM"
    assert stream(session, closed, "stdout") == "some output\n"


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_dialog_opens_from_the_cache_and_shows_a_change_at_the_next_opening(session, upload, tmp_path):
    service = session.sf.getScriptService()
    script = upload()
    seconds = []

    def opened():
        started = time.monotonic()
        names = set(service.getParams(script).inputs)
        seconds.append(time.monotonic() - started)
        return names

    known = {"Seconds", "Eat", "Ready"}
    assert opened() == known
    for _ in range(5):
        assert opened() == known
    print("dialog, first and cached:", " ".join(f"{one * 1000:.0f} ms" for one in seconds))
    assert sorted(seconds[1:])[2] <= 0.3
    (tmp_path / "names").mkdir()
    (tmp_path / "names/Nuclei").touch()
    assert opened() == known, "the entry of the cache, which starts a parse in the background"
    until(lambda: opened() == known | {"Nuclei"})


def test_a_changed_script_or_configuration_is_parsed_before_the_dialog_opens(session, upload, setting, tmp_path):
    service = session.sf.getScriptService()
    script = upload()
    assert "Nuclei" not in service.getParams(script).inputs
    (tmp_path / "names").mkdir()
    (tmp_path / "names/Nuclei").touch()
    setting("scripts_at_once = 9")
    assert "Nuclei" in service.getParams(script).inputs


def test_the_cache_survives_a_restart_of_the_node(session, upload, node, tmp_path):
    service = session.sf.getScriptService()
    script = upload()
    service.getParams(script)
    (tmp_path / "names").mkdir()
    (tmp_path / "names/Nuclei").touch()
    icegridadmin(node, "server stop Processor-0", timeout=30)
    icegridadmin(node, "server start Processor-0", timeout=60)
    end = time.monotonic() + 40
    while True:
        try:
            found = service.getParams(script)
            break
        except omero.ServerError:
            assert time.monotonic() < end, "the node does not come back"
            time.sleep(0.3)
    assert set(found.inputs) == {"Seconds", "Eat", "Ready"}, "parsed again, not read from the cache"


def test_a_node_that_is_stopped_uploads_the_output_of_its_scripts(session, upload, node, tmp_path):
    process = start(session, upload(), ready=tmp_path / "ready", Seconds=60)
    until((tmp_path / "ready").exists)
    icegridadmin(node, "server stop Processor-0", timeout=30)
    try:
        assert final_status(session, process) == "Finished"
        assert (tmp_path / "ready").read_text() == "got SIGHUP"
        assert stream(session, process, "stdout") == "some output\n"
        assert "stopped together with the node" in stream(session, process, "stderr").splitlines()[-1]
    finally:
        icegridadmin(node, "server start Processor-0", timeout=60)
