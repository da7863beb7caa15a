# ruff: noqa: F811  fixtures by import
"""OMERO stops while images are exported or results imported: the run waits, continues, and makes one set of objects.

The parts are killed in the middle of the step, and not restarted for a time, so that the calls in progress fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from sandbox.parts.grid import Blitz, Glacier2, GridServer, Tables, icegridadmin
from sandbox.root import Root
from tests.resilience import omero_world
from tests.resilience.omero_fixtures import omero_world_of, server  # noqa: F401
from tests.resilience.omero_world import ONE_SET, OmeroWorld, Relay
from tests.resilience.world import SLOW

#: Where a step is in the middle of its work.
MIDDLE = {"exporting": "before getPlane", "importing": "before setPlane"}

Outage = Callable[[], contextlib.AbstractContextManager[None]]


@pytest.fixture
def grid(server, sandbox):
    """The grid, in which a test may kill servers; it is repaired afterwards."""
    if os.environ.get("OMERO_HOST"):
        pytest.skip("the grid of a server that exists is not ours to harm")
    yield Root(sandbox.path)
    sandbox.up("tables", "glacier2")


def killed_and_disabled(part: GridServer) -> contextlib.AbstractContextManager[None]:
    """A server of the grid is killed; IceGrid may not start it again before the block ends."""

    @contextlib.contextmanager
    def away() -> Iterator[None]:
        icegridadmin(part, f"server disable {part.server}")
        pid = part.pid()
        assert pid
        os.kill(pid, signal.SIGKILL)
        yield
        icegridadmin(part, f"server enable {part.server}")
        with contextlib.suppress(Exception):  # the node may have restarted it before
            icegridadmin(part, f"server start {part.server}", timeout=30)

    return away()


@contextlib.contextmanager
def router_away(root: Root) -> Iterator[None]:
    """The router is killed: all clients lose their connection."""
    router = Glacier2(root)
    pid = router.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    yield
    router.start()


def survives(world: OmeroWorld, stage: str, outage: Outage, **how: object) -> None:
    """The fault happens in the middle of a step; the run records it, and ends once when the fault is removed."""
    run_id = world.submit()
    with omero_world.running(world, stage=stage, hold_at=MIDDLE[stage], only=str(run_id), **how):
        world.until(world.moments.with_suffix(".held").exists)
        with outage():
            world.moments.with_suffix(".go").touch()
            world.until(lambda: len(world.faults(run_id)) > 0)
        world.await_run(run_id, 60)
    run = world.check(run_id)
    assert run.attempt == 1
    assert any(fault.stage.value == stage and fault.kind == "transient" for fault in run.faults), run.faults
    assert world.made() == ONE_SET


@pytest.mark.parametrize("stage", ["exporting", pytest.param("importing", marks=SLOW)])
def test_a_run_survives_that_the_server_is_killed(grid, omero_world_of, stage):
    survives(omero_world_of(), stage, lambda: killed_and_disabled(Blitz(grid)))


@SLOW
@pytest.mark.parametrize("stage", list(MIDDLE))
def test_a_run_survives_that_the_router_is_killed(grid, omero_world_of, stage):
    survives(omero_world_of(), stage, lambda: router_away(grid))


def test_without_a_tables_server_an_import_waits(grid, omero_world_of):
    world = omero_world_of()
    run_id = world.submit()
    with omero_world.running(world, stage="importing", hold_at=MIDDLE["importing"], only=str(run_id)):
        world.until(world.moments.with_suffix(".held").exists)
        with killed_and_disabled(Tables(grid)):
            world.moments.with_suffix(".go").touch()
            world.until(lambda: any("Tables" in fault for fault in world.faults(run_id)), 60)
        world.await_run(run_id, 60)
    world.check(run_id)
    assert world.made() == ONE_SET


@SLOW
@pytest.mark.parametrize("stage", list(MIDDLE))
def test_a_call_to_a_silent_server_times_out_and_is_retried(server, omero_world_of, stage):
    world, relay = omero_world_of(), Relay(server.host, server.port)

    @contextlib.contextmanager
    def silent() -> Iterator[None]:
        relay.dumb.set()
        yield
        relay.restore()

    try:
        survives(world, stage, silent, answer=1500, encrypted=True, environment=world.environment(relay.port))
    finally:
        relay.close()


@SLOW
@pytest.mark.parametrize("stage", list(MIDDLE))
def test_a_step_whose_connection_is_cut_is_retried(server, omero_world_of, stage):
    world, relay = omero_world_of(), Relay(server.host, server.port)

    @contextlib.contextmanager
    def cut() -> Iterator[None]:
        relay.cut()
        yield
        relay.restore()

    try:
        survives(world, stage, cut, encrypted=True, environment=world.environment(relay.port))
    finally:
        relay.close()
