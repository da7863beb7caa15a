"""The grid's section against IceGrid's registry, two of its nodes, our Processor, and IceStorm."""

import os
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from pathlib import Path

import Ice
import IceStorm
import pytest

from sandbox.parts.grid import IceGridRegistry, icegridadmin
from sandbox.root import Root

CHECKOUT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-P", "-c", "from biomeroworker.cli import main; main()", "diagnostics"]
TOPIC = "/internal/ProcessorAccept"

SECOND_NODE = """
Ice.Default.Locator={locator}
Ice.Default.Host=127.0.0.1
IceGrid.Node.Name=stray
IceGrid.Node.Data={folder}/node
IceGrid.Node.Endpoints=tcp -h 127.0.0.1
IceGrid.Node.AllowRunningServersAsRoot=1
"""

SECOND_PROCESSOR = """<icegrid><application name="Second"><node name="stray">
  <server id="Processor-1" exe="/bin/sleep" activation="manual" user="root">
    <option>600</option>
    <adapter name="ProcessorAdapter" endpoints="tcp -h 127.0.0.1" server-lifetime="false">
      <object identity="Processor-1" type="::omero::grid::Processor"/>
    </adapter>
  </server>
</node></application></icegrid>"""

STORM = """
IceBox.InheritProperties=1
Ice.Default.Host=127.0.0.1
Ice.Default.Locator={locator}
IceBox.Service.IceStorm=IceStormService,37:createIceStorm --Ice.Config={folder}/icestorm.cfg
"""

STORM_SERVICE = """
IceStorm.LMDB.Path={folder}/topics
IceStorm.InstanceName=IceStorm
IceStorm.TopicManager.Endpoints=tcp -h 127.0.0.1
IceStorm.TopicManager.AdapterId=IceStorm.TopicManager
IceStorm.Publish.Endpoints=tcp -h 127.0.0.1
IceStorm.Publish.AdapterId=IceStorm.Publish
"""


@pytest.fixture(scope="module")
def grid(new_sandbox):
    """A separate grid with our Processor, which other tests do not use."""
    made = new_sandbox()
    made.up("processor")
    return IceGridRegistry(Root(made.path))


@pytest.fixture(scope="module")
def locator(grid):
    return f"IceGrid/Locator:tcp -h 127.0.0.1 -p {grid.port}"


@contextmanager
def running(argv, is_ready):
    """A program that runs within the block."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not is_ready():
            assert process.poll() is None, f"{argv[0]} ended with {process.returncode}"
            assert time.monotonic() < end, f"{argv[0]} is not ready"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def section(folder, **environ):
    """The files of the archive's part about the grid, and the summary."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(CHECKOUT), **environ}
    target = folder / "d.tar.gz"
    done = subprocess.run([*PROGRAM, "-o", target], env=given, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    with tarfile.open(target) as tar:
        found = {one.name.partition("/")[2]: tar.extractfile(one).read().decode() for one in tar.getmembers()}
    return {name.removeprefix("grid/"): text for name, text in found.items() if name.startswith(("grid/", "summary"))}


def test_the_description_of_the_grid_is_correct(grid, locator, tmp_path):
    found = section(tmp_path, OMERO_LOCATOR=locator)
    assert "master: up" in found["nodes.txt"]
    assert "Processor-0 on master: active (pid = " in found["servers.txt"]
    assert f"{sys.executable} -m runProcessor" in found["servers.txt"]
    assert "Processor-0.ProcessorAdapter dummy -t -e 1.1:tcp -h 127.0.0.1 -p " in found["adapters.txt"]
    assert len(found["who-serves-scripts.txt"].splitlines()) == 1, "no one else claims it"


def test_the_nodes_own_file_is_used_and_its_password_is_not_shown(grid, locator, tmp_path):
    server = tmp_path / "OMERO.server"
    (server / "etc").mkdir(parents=True)
    secret = "gridadmin-Qq55zz"
    lines = [f"Ice.Default.Locator={locator}", "IceGridAdmin.Username=root", f"IceGridAdmin.Password={secret}"]
    (server / "etc/internal.cfg").write_text("\n".join(lines))
    found = section(tmp_path, OMERODIR=str(server), OMERO_LOCATOR="IceGrid/Locator:tcp -h 127.0.0.1 -p 1")
    assert "master: up" in found["nodes.txt"]
    assert f"{server}/etc/internal.cfg" in found["nodes.txt"]
    assert secret not in "".join(found.values())


def test_a_second_processor_on_another_node_and_a_foreign_one_are_named(grid, locator, tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node.cfg").write_text(SECOND_NODE.format(locator=locator, folder=tmp_path))
    (tmp_path / "second.xml").write_text(SECOND_PROCESSOR)
    command = ["icegridnode", f"--Ice.Config={tmp_path}/node.cfg"]
    with running(command, lambda: "stray" in icegridadmin(grid, "node list").split()):
        icegridadmin(grid, f"application add '{tmp_path}/second.xml'", timeout=60)
        icegridadmin(grid, "object add 'Processor -t:tcp -h 127.0.0.1 -p 1' ::omero::grid::Processor")
        try:
            found = section(tmp_path, OMERO_LOCATOR=locator)
        finally:
            icegridadmin(grid, "object remove Processor")
            icegridadmin(grid, "application remove Second")
    report = found["who-serves-scripts.txt"]
    assert "2 servers serve scripts: Processor-0 on master, Processor-1 on stray" in report
    assert 'server disable Processor-1"' in report
    assert 'object remove Processor"' in report
    assert 'object remove biomeroworker-Processor-0"' not in report, "ours is known by its endpoint"
    assert report.splitlines()[0] in found["summary.txt"]
    assert "stray: up" in found["nodes.txt"]


def test_a_processor_on_an_unavailable_node_is_named(grid, locator, tmp_path):
    (tmp_path / "second.xml").write_text(SECOND_PROCESSOR)
    icegridadmin(grid, f"application add '{tmp_path}/second.xml'", timeout=60)
    try:
        found = section(tmp_path, OMERO_LOCATOR=locator)
    finally:
        icegridadmin(grid, "application remove Second")
    assert "Processor-1: its node stray does not answer" in found["who-serves-scripts.txt"]


def test_the_subscribers_of_the_processor_topic_are_named(grid, locator, tmp_path):
    (tmp_path / "topics").mkdir()
    (tmp_path / "icebox.cfg").write_text(STORM.format(locator=locator, folder=tmp_path))
    (tmp_path / "icestorm.cfg").write_text(STORM_SERVICE.format(folder=tmp_path))
    icegridadmin(grid, "object add 'IceStorm/TopicManager @ IceStorm.TopicManager' ::IceStorm::TopicManager")
    try:
        command = ["icebox", f"--Ice.Config={tmp_path}/icebox.cfg"]
        with running(command, lambda: "IceStorm.TopicManager" in icegridadmin(grid, "adapter list")):
            empty = section(tmp_path, OMERO_LOCATOR=locator)
            subscribe(locator, "Processor@Processor-0.ProcessorAdapter", "Dead-Processor:tcp -h 127.0.0.1 -p 1")
            found = section(tmp_path, OMERO_LOCATOR=locator)
    finally:
        icegridadmin(grid, "object remove IceStorm/TopicManager")
    assert "couldn't find topic" in empty["missing.txt"]
    assert found["processor-subscribers.txt"].split() == ["Processor", "Dead-Processor"]
    assert "2 Processors are subscribed" in found["who-serves-scripts.txt"]
    assert "missing.txt" not in found


def subscribe(locator, *proxies):
    """Make the topic and subscribe the proxies, as OMERO's server does."""
    communicator = Ice.initialize([f"--Ice.Default.Locator={locator}"])
    try:
        manager = IceStorm.TopicManagerPrx.checkedCast(
            communicator.stringToProxy("IceStorm/TopicManager @ IceStorm.TopicManager")
        )
        topic = manager.create(TOPIC)
        for proxy in proxies:
            topic.subscribeAndGetPublisher({}, communicator.stringToProxy(proxy))
    finally:
        communicator.destroy()
