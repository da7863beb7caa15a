"""Processor-0 as IceGrid starts it: it serves scripts, restarts after SIGKILL, and unregisters when it is stopped."""

import os
import signal
import time

import omero.clients
import pytest
from omero.rtypes import rint

from sandbox.parts.grid import Processor, icegridadmin
from sandbox.root import Root
from tests.integration.omero.user_name_script import SCRIPT, run_script


@pytest.fixture(scope="module")
def node(sandbox):
    if os.environ.get("OMERO_HOST"):
        pytest.skip("the grid of a server that exists is not ours to stop and start")
    sandbox.up("glacier2", "processor")
    part = Processor(Root(sandbox.path))
    icegridadmin(part, "server enable Processor-0")
    return part


@pytest.fixture(scope="module")
def script(server, node):
    with server.root() as root:
        path = f"/test/who_{time.monotonic_ns()}.py"
        return root.sf.getScriptService().uploadOfficialScript(path, SCRIPT)


def running(node, seconds=40):
    """The server's process, as soon as the node has started it."""
    end = time.monotonic() + seconds
    while not (found := node.pid()):
        assert time.monotonic() < end, "the node does not start it"
        time.sleep(0.3)
    return found


def test_an_official_script_runs_as_the_user_who_starts_it(session, person, script):
    assert run_script(session, script) == person.name


def test_after_sigkill_the_node_starts_it_again_and_it_serves(session, person, script, node):
    before = running(node)
    os.kill(before, signal.SIGKILL)
    assert run_script(session, script) == person.name
    assert node.pid() != before


def test_when_it_is_stopped_it_leaves_the_servers_list(session, script, node):
    running(node)
    assert run_script(session, script)
    icegridadmin(node, "server disable Processor-0")
    started = time.monotonic()
    icegridadmin(node, "server stop Processor-0", timeout=30)
    assert time.monotonic() - started < 6
    try:
        with pytest.raises(omero.ServerError):
            session.sf.getScriptService().runScript(script, {}, rint(3))
    finally:
        icegridadmin(node, "server enable Processor-0")
    assert "Unregistered" in (node.root.path / "log/Processor-0.log").read_text()
