"""The services with IceGrid's real registry and node, on this machine."""

import os
import pwd
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from string import Template

import pytest

from tests.unit.startup.startup_kit import CHECKOUT, Box, Running, alive, node_variables, running

REGISTRY = Template("""IceGrid.InstanceName=IceGrid
IceGrid.Registry.LMDB.Path=$data
IceGrid.Registry.Client.Endpoints=tcp -h 127.0.0.1 -p $port
IceGrid.Registry.Server.Endpoints=tcp -h 127.0.0.1
IceGrid.Registry.Internal.Endpoints=tcp -h 127.0.0.1
IceGrid.Registry.PermissionsVerifier=IceGrid/NullPermissionsVerifier
IceGrid.Registry.AdminPermissionsVerifier=IceGrid/NullPermissionsVerifier
IceGrid.Registry.DynamicRegistration=1
""")
# The parts of OMERO's template of a Processor that matter here.
APPLICATION = Template("""<icegrid><application name="OMERO">
<variable name="PYTHON" value="python"/>
<node name="worker-1">
  <server id="Processor-0" exe="$${PYTHON}" activation="always" pwd="$home" user="$user">
    <option>-m</option><option>runProcessor</option>
    <adapter name="ProcessorAdapter" endpoints="tcp">
      <object identity="Processor-0" type="::omero::grid::Processor"/>
    </adapter>
  </server>
</node></application></icegrid>
""")
# Our server with a servant that needs no OMERO.server, started as the grid starts the Processor.
SERVER = """
import sys, Ice, logging
from biomeroworker.node import server

class Servant(Ice.Object):
    def __init__(self, context): logging.getLogger("servant").warning("it serves")
    def setProxy(self, proxy): pass
    def cleanup(self): pass

server.make = Servant
if __name__ == "__main__":
    sys.exit(server.main(sys.argv))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Grid:
    """A registry on this machine, and a node that the startup scripts start."""

    def __init__(self, box: Box, stack: ExitStack) -> None:
        self.box, self.stack, self.port = box, stack, free_port()
        modules = box.folder / "modules"
        modules.mkdir()
        (modules / "runProcessor.py").write_text(SERVER)
        (box.server / "var/log").mkdir(parents=True)
        box.program(
            "venv/bin/python",
            f'[ "$1" = -c ] && {{ echo {modules}; exit; }}\nexport PYTHONPATH=$PYTHONPATH:{CHECKOUT}\n'
            f'exec {sys.executable} "$@"',
        )
        for program in ("icegridnode", "icegridadmin"):
            (box.folder / "bin" / program).unlink()
        # root's node would start servers as `nobody`, who cannot read a checkout in root's home
        box.program("bin/icegridnode", 'exec /usr/bin/icegridnode --IceGrid.Node.AllowRunningServersAsRoot=1 "$@"')

    def start_registry(self) -> subprocess.Popen[bytes]:
        data = self.box.folder / "registry"
        data.mkdir(exist_ok=True)
        config = self.box.folder / "registry.cfg"
        config.write_text(REGISTRY.substitute(data=data, port=self.port))
        with (self.box.folder / "registry.log").open("ab") as log:
            process = subprocess.Popen(["icegridregistry", f"--Ice.Config={config}"], stdout=log, stderr=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def start_node(self, **variables: str) -> Running:
        # as this user, without entrypoint.sh: root keeps reading the checkout
        self.box.program("start", "source $STARTUP_FOLDER/20-config.sh; exec bash $STARTUP_FOLDER/99-run.sh")
        given = node_variables(self.port, OMERO_WORKER_PORT=str(free_port()), **variables)
        return self.stack.enter_context(running(self.box, script=self.box.folder / "start", **given))

    def admin(self, command: str) -> str:
        found = subprocess.run(
            ["icegridadmin", f"--Ice.Config={self.box.server}/etc/internal.cfg", "-e", command],
            capture_output=True,
            text=True,
            timeout=20,
        )
        return found.stdout + found.stderr

    def deploy(self) -> None:
        application = self.box.folder / "application.xml"
        user = pwd.getpwuid(os.geteuid()).pw_name
        application.write_text(APPLICATION.substitute(home=self.box.server, user=user))
        assert "error" not in self.admin(f"application add '{application}'")


def eventually(question: Callable[[], str], answer: str, seconds: float = 20) -> str:
    end = time.monotonic() + seconds
    while not re.search(answer, found := question()):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


@pytest.fixture
def grid(box: Box) -> Iterator[Grid]:
    with ExitStack() as stack:
        yield Grid(box, stack)


def test_an_external_processor_has_its_published_address_and_listens_on_its_port(grid):
    port = free_port()
    grid.start_registry()
    run = grid.start_node(OMERO_WORKER_PUBLISHED_HOST="localhost", OMERO_PROCESSOR_PORT=str(port))
    run.wait_for("add worker-1:Processor-0 to omero.server.nodedescriptors")
    health = grid.box.run("healthcheck.sh", **node_variables(grid.port))
    assert (health.returncode, health.stdout) == (1, "OMERO's master has given no server to node worker-1\n")

    grid.deploy()
    found = eventually(lambda: grid.admin("adapter endpoints Processor-0.ProcessorAdapter"), "tcp")
    assert f"tcp -h localhost -p {port}" in found
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        assert connection.recv(4) == b"IceP"
    # what the Processor logs is in the container's log
    run.wait_for("WARNING servant: it serves")
    health = grid.box.run("healthcheck.sh", **node_variables(grid.port))
    assert (health.returncode, health.stdout) == (0, "")

    server = int(re.search(r"pid = (\d+)", grid.admin("server state Processor-0"))[1])
    status, seconds = run.stop()
    assert (status, alive(server)) == (0, False)
    assert seconds < 10


def test_a_node_registers_again_with_a_restarted_empty_registry(grid):
    registry = grid.start_registry()
    run = grid.start_node(REGISTRATION_LIMIT_SECONDS="1")
    run.wait_for("registered with OMERO's master")
    registry.kill()
    registry.wait()
    run.wait_for("OMERO's master does not answer")
    grid.start_registry()
    run.wait_for("restarting IceGrid's node", 20)
    run.wait_for(lambda: run.text.count("registered with OMERO's master") == 2, 20)
