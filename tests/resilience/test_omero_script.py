# ruff: noqa: F811  fixtures by import
"""The script that shows a run in OMERO dies, or loses its session or its Processor: the run continues to its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from uuid import UUID

import omero.clients
import omero.model
import pytest
from omero.rtypes import rbool, rfloat, rint, rlist, rlong, rstring

from biomeroworker.eventlog.aggregates.states import RunState
from biomeroworker.eventlog.runlog import WorkflowRun
from sandbox.parts.grid import Processor, icegridadmin
from sandbox.root import Root
from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld
from tests.resilience.world import SLOW

SCRIPT = Path(__file__).parents[2] / "scripts/workflows/SLURM_Run_Workflow.py"


@pytest.fixture
def node(server, sandbox):
    """The grid's Processor-0."""
    if os.environ.get("OMERO_HOST"):
        pytest.skip("the grid of a server that exists is not ours to harm")
    sandbox.up("glacier2", "processor")
    part = Processor(Root(sandbox.path))
    icegridadmin(part, "server enable Processor-0")
    return part


class Shown:
    """A run that the script submitted, in a process of the grid's Processor, and shows."""

    def __init__(self, world: OmeroWorld, node: Processor) -> None:
        assert world.server
        self.world, self.node = world, node
        # the deployment of this test, in place of the one that the grid was started with
        first = f"import os; os.environ['BIOMERO_CONFIG'] = {str(world.folder / 'config.ini')!r}\n"
        first += "os.environ.pop('SQLALCHEMY_URL', None)\n"
        with world.server.root() as root:
            path = f"/test/run_{world.dataset}_{os.urandom(3).hex()}.py"
            self.script = root.sf.getScriptService().uploadOfficialScript(path, first + SCRIPT.read_text())
        self.session = world.session()
        self.run_id = self._launch()
        self.pid = self._pid()

    def _launch(self) -> UUID:
        inputs = {
            "Data_Type": rstring("Dataset"),
            "IDs": rlist([rlong(self.world.dataset)]),
            "obedient": rbool(True),
            "obedient_|_sleep": rfloat(4.0),
        }
        self.process = self.session.sf.getScriptService().runScript(self.script, inputs, rint(30))
        with self.world.log() as log:
            self.world.until(lambda: bool(log.runs(limit=1)), 60)
            return log.runs(limit=1)[0].id

    def _pid(self) -> int:
        """The script's process: the one that has this deployment's file open as its program."""
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    words = (folder / "cmdline").read_bytes().split(b"\0")
                    if b"./script" in words and str(self.world.folder) in (folder / "cwd/script").read_text():
                        return int(folder.name)
                except OSError:
                    continue
        raise AssertionError("the script does not run")

    def waits(self) -> None:
        """The run is on the cluster, and the script waits for it."""
        self.world.await_run(self.run_id, 40, RunState.RUNNING)
        assert Path(f"/proc/{self.pid}").exists()

    def gone(self) -> None:
        self.world.until(lambda: not Path(f"/proc/{self.pid}").exists(), 40)

    def finished(self) -> WorkflowRun:
        self.world.await_run(self.run_id)
        run = self.world.check(self.run_id)
        made = self.world.made()
        del made["OriginalFile"]  # the output of the script is one too
        assert made == {kind: count for kind, count in ONE_SET.items() if kind in made}
        return run


@pytest.fixture
def shown(node, omero_world_of):
    made = Shown(omero_world_of(), node)
    yield made
    made.session.close()


def test_the_script_is_killed(shown):
    with omero_world.running(shown.world):
        shown.waits()
        os.kill(shown.pid, signal.SIGKILL)
        shown.gone()
        shown.finished()


@SLOW
def test_the_session_of_the_user_is_ended(shown):
    """It has expired, or the user has logged out."""
    with omero_world.running(shown.world):
        shown.waits()
        with shown.world.server.root() as root:
            ended = omero.model.SessionI()
            ended.uuid = rstring(shown.session.client.getSessionId())
            while root.sf.getSessionService().closeSession(ended) > 0:
                pass
        assert not shown.finished().cancel_requested


@SLOW
def test_the_processor_is_started_again_by_the_grid_while_the_script_waits(shown):
    with omero_world.running(shown.world):
        shown.waits()
        before = shown.node.pid()
        icegridadmin(shown.node, "server stop Processor-0", timeout=30)
        assert not shown.finished().cancel_requested, "the stop of a node is not a cancel"
    shown.world.until(lambda: shown.node.pid() not in (None, before), 60)
    shown.gone()
