"""OMERO's grid, used by its clients."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.processes import marked
from tests.sandbox_fixtures import Sandbox

omero_clients = pytest.importorskip("omero.clients")
pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def router(sandbox: Sandbox) -> Sandbox:
    """The grid up to the router: Tables and Processor are not needed here."""
    sandbox.up("glacier2")
    return sandbox


@pytest.fixture
def client(router: Sandbox) -> Iterator[object]:
    import omero

    client = omero.client(router.env["OMERO_HOST"], int(router.env["OMERO_PORT"]))
    yield client
    client.__del__()  # destroys the communicator; closeSession alone would make a new one


def test_root_logs_in_through_the_encrypted_router(router: Sandbox, client) -> None:
    client.createSession("root", router.env["OMERO_ROOT_PASSWORD"])
    assert client.getSession().ice_isA("::omero::api::ServiceFactory")
    assert "ssl" in client.getRouter(client.getCommunicator()).ice_toString()


def test_a_wrong_password_is_refused(router: Sandbox, client) -> None:
    import Glacier2

    with pytest.raises(Glacier2.PermissionDeniedException):
        client.createSession("root", "not it")


def test_a_table_is_stored_by_omeros_own_tables_server(router: Sandbox, client) -> None:
    from omero.grid import LongColumn

    router.up("tables")
    client.createSession("root", router.env["OMERO_ROOT_PASSWORD"])
    table = client.getSession().sharedResources().newTable(0, "numbers.h5")
    table.initialize([LongColumn("number", "", [])])
    table.addData([LongColumn("number", "", [1, 2, 3])])
    file = table.getOriginalFile()
    table.close()
    again = client.getSession().sharedResources().openTable(file)
    assert again.readCoordinates([2, 0]).columns[0].values == [3, 1]
    again.close()


def test_after_its_node_was_killed_a_server_runs_once(router: Sandbox) -> None:
    def running() -> int:
        return len([p for p in marked(router.path) if b"omero_stand_in" in Path(f"/proc/{p.pid}/cmdline").read_bytes()])

    assert running() == 1
    os.kill(int((router.path / "run/icegrid-node.pid").read_text().split()[0]), signal.SIGKILL)
    time.sleep(0.2)
    assert router.run("status").returncode == 1
    router.up("glacier2", "tables")  # the node's servers went with it; later tests count on both
    assert running() == 1


def test_a_killed_server_is_started_again_by_the_node(router: Sandbox) -> None:
    def blitz() -> str:
        rows = [line for line in router.run("status").stdout.splitlines() if " blitz " in line]
        return rows[0].split("│")[3].strip()

    before = blitz()
    os.kill(int(before), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while (now := blitz()) in ("", before) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert now not in ("", before)
    router.up("glacier2")
