"""Two nodes in one grid: each registers under its own identity, and both serve scripts."""

import os
import xml.etree.ElementTree as ET

import omero.clients
import pytest

from sandbox.parts.grid import Processor, icegridadmin
from sandbox.root import Root
from tests.integration.omero.user_name_script import SCRIPT, run_script


@pytest.fixture(scope="module")
def grid(sandbox):
    """The grid with Processor-0 and Processor-1."""
    if os.environ.get("OMERO_HOST"):
        pytest.skip("the grid of a server that exists is not ours to change")
    sandbox.up("glacier2", "processor")
    part = Processor(Root(sandbox.path))
    tree = ET.parse(sandbox.path / "etc/grid.xml")
    application = tree.find("application")
    application.set("name", "SecondNode")
    for replica in application.findall("replica-group"):
        application.remove(replica)
    node = application.find("node")
    for server in node.findall("server"):
        if server.get("id") == "Processor-0":
            server.set("id", "Processor-1")
            server.set("activation", "always")
            server.find("adapter/object").set("identity", "Processor-1")
        else:
            node.remove(server)
    second = sandbox.path / "etc/second.xml"
    tree.write(second)
    icegridadmin(part, f"application add '{second}'", timeout=60)
    icegridadmin(part, "server enable Processor-0")
    yield part
    icegridadmin(part, "application remove SecondNode", timeout=30)
    icegridadmin(part, "server enable Processor-0")


def stop(grid, server):
    icegridadmin(grid, f"server disable {server}")
    icegridadmin(grid, f"server stop {server}", timeout=30)


def test_each_node_serves_alone_and_both_serve_together(server, session, person, grid):
    with server.root() as root:
        script = root.sf.getScriptService().uploadOfficialScript(f"/test/two_{os.getpid()}.py", SCRIPT)
    stop(grid, "Processor-0")
    assert run_script(session, script) == person.name, "Processor-1 serves alone"
    icegridadmin(grid, "server enable Processor-0")
    icegridadmin(grid, "server start Processor-0", timeout=60)
    for _ in range(4):
        assert run_script(session, script) == person.name
    stop(grid, "Processor-1")
    assert run_script(session, script) == person.name, "Processor-0 serves alone"
    stop(grid, "Processor-0")
    with pytest.raises(omero.ServerError):
        session.sf.getScriptService().runScript(script, {}, omero.rtypes.rint(2))
    logs = [(grid.root.path / f"log/{name}.log").read_text() for name in ("Processor-0", "Processor-1")]
    for number, log in enumerate(logs):
        assert f"Registering processor biomeroworker-Processor-{number} " in log
