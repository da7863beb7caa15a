"""99-run.sh: the services and their restart, the wait for the master, and the stop."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.unit.startup.startup_kit import Box, alive, master, node_variables, running

ATTACHED = {"BIOMEROWORKER_MODE": "attached", "OMERO_HOST": "127.0.0.1", "OMERO_PASSWORD": "secret"}


@pytest.fixture(autouse=True)
def account(box: Box) -> None:
    """Started as root, all runs as an account with this home."""
    box.program(
        "bin/getent",
        f'[ "$2" = account ] && echo "account:x:65534:65534::{box.home}:/bin/sh" || exec /usr/bin/getent "$@"',
    )
    box.variables["BIOMEROWORKER_ACCOUNT"] = "account"
    if os.geteuid() == 0:
        for folder in (box.folder, box.home, box.server):
            os.chown(folder, 65534, 65534)


def settings(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_files_of_a_worker_beside_its_master(box):
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for("starting IceGrid's node worker-1")
        worker = settings(box.server / "etc/worker-1.cfg")
        internal = settings(box.server / "etc/internal.cfg")
    assert worker["IceGrid.Node.Name"] == "worker-1"
    assert worker["IceGrid.Node.Data"] == f"{box.server}/var/worker-1"
    assert (box.server / "var/worker-1").stat().st_mode & 0o777 == 0o700
    assert worker["IceGrid.Node.Endpoints"] == "tcp -p 4062"
    assert not {"IceGrid.Node.PublishedEndpoints", "IceGrid.Node.Output"} & set(worker)
    assert internal["Ice.Default.Locator"] == f"IceGrid/Locator:tcp -h 127.0.0.1 -p {port}"
    assert settings(box.server / "etc/ice.config")["Ice.Default.Router"] == (
        "OMERO.Glacier2/router:ssl -p 4064 -h 127.0.0.1"
    )


def test_the_files_of_an_external_worker_publish_its_address(box):
    more = {"OMERO_WORKER_PUBLISHED_HOST": "worker.example.org", "OMERO_WORKER_PORT": "5062", "OMERO_HOST": "omero"}
    with running(box, **node_variables(1, **more)) as run:
        run.wait_for("waiting for OMERO's master")
        worker = settings(box.server / "etc/worker-1.cfg")
    assert worker["IceGrid.Node.Endpoints"] == "tcp -p 5062"
    assert worker["IceGrid.Node.PublishedEndpoints"] == "tcp -h worker.example.org -p 5062"
    assert settings(box.server / "etc/ice.config")["omero.host"] == "omero"


def test_files_of_an_earlier_start_are_replaced_and_nothing_partial_is_left(box):
    (box.server / "etc").mkdir()
    os.chown(box.server / "etc", 65534, 65534)
    (box.server / "etc/internal.cfg").write_text("Ice.Default.Locator=old\n")
    with running(box, **node_variables(1)) as run:
        run.wait_for("waiting for OMERO's master")
    assert "old" not in (box.server / "etc/internal.cfg").read_text()
    assert sorted(path.name for path in (box.server / "etc").iterdir()) == [
        "ice.config",
        "internal.cfg",
        "worker-1.cfg",
    ]


def test_a_server_folder_that_cannot_be_written_is_named(box):
    box.server.rmdir()
    box.server.write_text("")
    with running(box, **node_variables(1)) as run:
        assert run.process.wait(10) == 1
    assert f"cannot make folders in {box.server} (OMERO_SERVER_FOLDER)" in run.text


# -- what the services get --------------------------------------------------------------------------------------------


def test_icegrids_node_starts_our_processor_and_only_the_supervisor_has_the_locator(box):
    box.program(
        "bin/icegridnode",
        'pwd > "$HOME/node"; echo "$@" >> "$HOME/node"; env >> "$HOME/node"\n'
        "echo from the node; echo error of the node >&2; exec sleep 600",
    )
    box.program("venv/bin/biomeroworker", '[ "$1" = config ] || { echo "$@"; env; exec sleep 600; }')
    with master() as port, running(box, **node_variables(port, PYTHONPATH="/more")) as run:
        run.wait_for(lambda: (box.home / "node").exists() and "HOME=" in (box.home / "node").read_text())
        for text in ("OMERO_LOCATOR", "from the node", "error of the node"):  # all of it in the container's log
            run.wait_for(text)
        folder, arguments, *lines = (box.home / "node").read_text().splitlines()
    assert (folder, arguments) == (str(box.server), "--Ice.Config=etc/internal.cfg,etc/worker-1.cfg --nochdir")
    environment = dict(line.split("=", 1) for line in lines if "=" in line)
    assert environment["PYTHON"] == f"{box.folder}/venv/bin/python"
    assert environment["PYTHONPATH"] == "/the/modules:/more"
    assert "OMERO_LOCATOR" not in environment
    assert f"OMERO_LOCATOR=IceGrid/Locator:tcp -h 127.0.0.1 -p {port}" in run.text


def test_an_attached_processor_runs_beside_a_supervisor_without_a_grid(box):
    with running(box, **ATTACHED) as run:
        run.wait_for(lambda: sorted(box.calls) == ["attach", "config show", "supervise"])
        assert not (box.server / "etc").exists()
        assert "secret" not in Path(f"/proc/{box.state('attach')}/cmdline").read_text()


# -- the master -------------------------------------------------------------------------------------------------------


def test_the_node_waits_for_the_master_and_logs_it_regularly(box):
    with master() as port:
        pass
    with running(box, **node_variables(port)) as run:
        run.wait_for(lambda: run.text.count(f"127.0.0.1 does not answer on port {port}") >= 2)
        assert "starting IceGrid's node" not in run.text
        assert "supervise" in box.calls, "runs continue while OMERO is away"
        with master(port=port):
            run.wait_for("starting IceGrid's node")


def test_a_server_that_is_not_a_registry_is_not_mistaken_for_the_master(box):
    with master(greeting=b"HTTP") as port, running(box, **node_variables(port)) as run:
        run.wait_for(f"does not answer on port {port}")


@pytest.mark.parametrize("host", ["master.invalid", "127.0.0.1"])
def test_waiting_ends_at_the_configured_limit(box, host):
    variables = node_variables(1, OMERO_MASTER_WAIT_SECONDS="1") | {"CONFIG_omero_master_host": host}
    with running(box, **variables) as run:
        assert run.process.wait(10) == 1
    assert f"error: {'the name ' if host != '127.0.0.1' else ''}{host}" in run.text
    assert "OMERO_MASTER_WAIT_SECONDS=1" in run.text
    assert run.text.index("waiting for OMERO's master") < run.text.index("error:")
    assert ("cannot be resolved" in run.text) == (host == "master.invalid")


@pytest.mark.parametrize(
    ("ping", "describe"),
    [
        ("error: couldn't find node `worker-1'", ""),
        ("node is down", "error: node `worker-1' couldn't be reached: the node is not active"),  # it has servers
    ],
)
def test_a_node_that_the_master_no_longer_knows_is_restarted(box, ping, describe):
    # as when the master came back under another address, and the connection to the old one hangs
    box.program("bin/icegridnode", 'echo node starts; [ -e "$HOME/moved" ] && touch "$HOME/back"; exec sleep 600')
    box.program(
        "bin/icegridadmin",
        'if [ ! -e "$HOME/moved" ] || [ -e "$HOME/back" ]; then echo node is up\n'
        f"""elif [[ $* = *ping* ]]; then echo "{ping.replace("`", "")}"; else echo "{describe.replace("`", "")}"; fi""",
    )
    with master() as port, running(box, **node_variables(port), REGISTRATION_LIMIT_SECONDS="1") as run:
        run.wait_for("registered with OMERO's master")
        run.wait_for("node starts")
        first = box.state("node")
        (box.home / "moved").touch()
        run.wait_for("restarting IceGrid's node")
        run.wait_for(lambda: run.text.count("node starts") == 2)
        assert not alive(first)
        run.wait_for(lambda: run.text.count("registered with OMERO's master") == 2)


def test_a_node_is_not_restarted_while_its_master_does_not_answer(box):
    box.program("bin/icegridadmin", "echo 'error: Ice::ConnectionRefusedException'; exit 1")
    with master() as port, running(box, **node_variables(port), REGISTRATION_LIMIT_SECONDS="0") as run:
        run.wait_for("starting IceGrid's node")
        first = box.state("node")
        time.sleep(1.2)
        assert box.state("node") == first
        assert alive(first)


def test_the_log_names_the_port_to_publish_if_the_master_cannot_reach_the_node(box):
    box.program("bin/icegridadmin", '[[ $* = *ping* ]] && echo node is down || echo "{ operating system = Linux }"')
    variables = node_variables(OMERO_WORKER_PUBLISHED_HOST="worker.example.org")
    with master() as port, running(box, **variables | {"CONFIG_omero_master_port": str(port)}) as run:
        run.wait_for("cannot connect to this node at worker.example.org:4062")


def test_the_servers_of_the_node_are_named(box):
    (box.server / "var/worker-1/servers/Processor-0").mkdir(parents=True)
    if os.geteuid() == 0:
        for folder in box.server.rglob("*"):
            os.chown(folder, 65534, 65534)
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for("registered with OMERO's master as worker-1; servers: Processor-0")


# -- started again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["supervisor", "node"])
def test_a_killed_service_is_restarted_and_the_other_continues(box, service):
    other = {"supervisor": "node", "node": "supervisor"}[service]
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for("starting IceGrid's node")
        run.wait_for((box.folder / "state/supervisor.pid").exists)
        first, beside = box.state(service), box.state(other)
        os.kill(first, signal.SIGKILL)
        run.wait_for("ended with status 137; starting it again in 1 s")
        run.wait_for((box.folder / f"state/{service}.pid").exists)
        assert box.state(service) != first
        assert alive(box.state(service))
        assert box.state(other) == beside
        assert alive(beside)


def test_each_failure_in_a_row_doubles_the_wait_up_to_a_limit(box):
    box.program("venv/bin/biomeroworker", '[ "$1" = config ] || exit 3')
    with running(box, **node_variables(1), RESTART_DELAY_LIMIT_SECONDS="2") as run:
        run.wait_for(lambda: run.text.count("the supervisor ended with status 3") == 3)
    delays = [line.rpartition(" in ")[2] for line in run.text.splitlines() if "the supervisor ended" in line]
    assert delays[:3] == ["1 s", "2 s", "2 s"]


def test_a_service_that_ran_for_a_while_is_restarted_soon(box):
    box.program("venv/bin/biomeroworker", '[ "$1" = config ] || exit 3')
    with running(box, **node_variables(1), RESTART_RESET_SECONDS="0") as run:
        run.wait_for(lambda: run.text.count("ended with status 3; starting it again in 1 s") == 2)


def test_repeated_failures_of_the_node_end_the_container(box):
    box.program("bin/icegridnode", "echo first error >&2; exit 4")
    with master() as port, running(box, **node_variables(port), RESTART_LIMIT="2", RESTART_DELAY_SECONDS="0") as run:
        assert run.process.wait(15) == 1
    assert run.text.count("first error") == 3
    assert "error: IceGrid's node ended 3 times in a row, the last time with status 4" in run.text


def test_repeated_failures_of_the_supervisor_do_not_end_the_container(box):
    box.program("venv/bin/biomeroworker", '[ "$1" = config ] || exit 3')
    with running(box, **node_variables(1), RESTART_LIMIT="1", RESTART_DELAY_SECONDS="0") as run:
        run.wait_for(lambda: run.text.count("the supervisor ended") >= 4)
        assert run.process.poll() is None


def test_servers_of_a_killed_node_are_stopped_before_the_next_node_starts(box):
    # a group of its own, as IceGrid gives its servers
    box.program("bin/icegridnode", 'set -m; sleep 601 & echo $! >> "$HOME/servers"; exec sleep 600')
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for((box.home / "servers").exists)
        run.wait_for(lambda: (box.home / "servers").read_text().strip())
        server = int((box.home / "servers").read_text())
        assert alive(server)
        os.kill(box.state("node"), signal.SIGKILL)
        run.wait_for(lambda: len((box.home / "servers").read_text().split()) == 2)
        assert not alive(server)


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_sigterm_stops_both_services_with_status_0(box):
    box.program("bin/icegridnode", "trap 'echo node stops; exit' TERM; while sleep 0.1; do :; done")
    box.program(
        "venv/bin/biomeroworker",
        '[ "$1" = config ] || { trap "echo supervisor stops; exit" TERM; while sleep 0.1; do :; done; }',
    )
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for("starting IceGrid's node")
        time.sleep(0.3)
        services = box.state("node"), box.state("supervisor")
        status, seconds = run.stop()
    assert status == 0
    assert seconds < 3
    assert "node stops" in run.text
    assert "supervisor stops" in run.text
    assert not any(map(alive, services))
    assert not (box.folder / "state").exists()


def test_sigterm_stops_at_once_while_waiting_for_the_master(box):
    with running(box, **node_variables(1)) as run:
        run.wait_for("waiting for OMERO's master")
        status, seconds = run.stop()
    assert status == 0
    assert seconds < 3


def test_sigterm_stops_a_stubborn_service_and_its_children_in_time(box):
    box.program("bin/icegridnode", "trap '' TERM; set -m; sleep 600 & echo $! > \"$HOME/server\"; sleep 600")
    with master() as port, running(box, **node_variables(port)) as run:
        run.wait_for(lambda: (box.home / "server").exists() and (box.home / "server").read_text().strip())
        services = box.state("node"), box.state("supervisor"), int((box.home / "server").read_text())
        status, seconds = run.stop()
    assert status == 0
    assert 1 <= seconds < 5, "STOP_SECONDS is 2 here, by a clock of whole seconds"
    assert "IceGrid's node did not stop within 2 s: killed" in run.text
    assert not any(map(alive, services))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a process namespace")
def test_as_process_1_it_reaps_orphans_and_handles_sigterm(box):
    box.program("bin/icegridnode", "(setsid sleep 0.5 &); exec sleep 600")
    box.program("venv/bin/biomeroworker", '[ "$1" = config ] || { ps -eo pid= -o stat= | awk "/Z/"; sleep 1.5; }')
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with master() as port, running(box, prefix=unshare, **node_variables(port), RESTART_DELAY_SECONDS="0") as run:
        run.wait_for("starting IceGrid's node")
        run.wait_for(lambda: run.text.count("the supervisor ended") == 2)
        first = int(Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text())
        seen = run.text.rpartition("starting it again")[0]  # a zombie of this moment may be in one list, not in two
        zombies = re.findall(r"^ *(\d+) +Z", seen, re.MULTILINE)
        os.kill(first, signal.SIGTERM)
        assert run.process.wait(5) == 0
    assert len(zombies) == len(set(zombies))
