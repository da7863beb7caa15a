"""healthcheck.sh: status 0 while the container does its work, else one line with the cause."""

import os

import pytest

from tests.unit.startup.startup_kit import Box, master, node_variables

ATTACHED = {"BIOMEROWORKER_MODE": "attached", "OMERO_HOST": "127.0.0.1", "OMERO_PASSWORD": "secret"}


@pytest.fixture
def up(box: Box) -> Box:
    """A container whose services run, as far as the health check sees: this process stands for each."""
    (box.folder / "state").mkdir()
    for service in ("node", "supervisor", "attach"):
        (box.folder / f"state/{service}.pid").write_text(f"{os.getpid()}\n")
    (box.server / "var/worker-1/servers/Processor-0").mkdir(parents=True)
    box.program(
        "bin/icegridadmin",
        'case "$*" in *ping*) cat "$HOME/ping" ;;\n'
        '*describe*) echo "{ operating system = Linux }" ;;\n'
        '*"server state Processor-0") cat "$HOME/server" ;; esac',
    )
    (box.home / "ping").write_text("node is up\n")
    (box.home / "server").write_text("active (pid = 42, enabled)\n")
    return box


def health(box: Box, **variables: str) -> tuple[int, str]:
    done = box.run("healthcheck.sh", **(variables or node_variables()))
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_node_whose_servers_are_active_is_healthy(up):
    assert health(up) == (0, "")


@pytest.mark.parametrize(("service", "name"), [("supervisor", "the supervisor"), ("node", "IceGrid's node")])
def test_a_service_that_does_not_run_is_named(up, service, name):
    pid = up.folder / f"state/{service}.pid"
    pid.write_text("4194999\n")
    assert health(up) == (1, f"{name} is not running\n")
    pid.unlink()
    assert health(up) == (1, f"{name} is not running\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("node is down", "reports node worker-1 as unreachable"),
        ("error: couldn't find node `worker-1'", "reports node worker-1 as unknown"),
        ("error: Ice::ConnectTimeoutException", "does not answer"),
    ],
)
def test_a_node_that_is_not_registered_is_not_healthy(up, answer, message):
    (up.home / "ping").write_text(answer)
    assert health(up) == (1, f"OMERO's master 127.0.0.1 {message}\n")


def test_a_server_that_is_not_active_is_named(up):
    (up.home / "server").write_text("inactive (enabled)\n")
    assert health(up) == (1, "Processor-0 is inactive (enabled)\n")


def test_an_attached_processor_is_healthy_while_its_server_accepts_connections(up):
    with master() as port:
        assert health(up, **ATTACHED, OMERO_PORT=str(port)) == (0, "")
    assert health(up, **ATTACHED, OMERO_PORT=str(port)) == (1, f"127.0.0.1 does not answer on port {port}\n")
    (up.folder / "state/attach.pid").unlink()
    assert health(up, **ATTACHED, OMERO_PORT=str(port)) == (1, "the attached Processor is not running\n")
