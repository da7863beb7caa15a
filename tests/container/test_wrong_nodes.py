"""Nodes that are started with wrong settings: an error ends the node with one line, or the node waits.

A node ends when it cannot work before an administrator changes something: without a configuration, or with unreadable
keys. It waits for a master that does not answer yet. It remains in the grid when the cluster refuses its key, because
it runs all of OMERO's scripts, and the key can be corrected on the cluster.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.container.engine import Engine
from tests.container.stack import Stack, until

Start = Callable[..., str]


@pytest.fixture
def keys(stack: Stack, tmp_path: Path) -> Path:
    """A copy of the folder .ssh that the deployment's nodes have."""
    return Path(shutil.copytree(stack.ssh, tmp_path / "ssh"))


@pytest.fixture
def start(stack: Stack, engine: Engine) -> Iterator[Start]:
    """Start a further node in the deployment's network; returns its container."""
    started: list[str] = []

    def node(keys: Path, *options: str, master: str = "omeroserver", user: str = "0", configured: bool = True) -> str:
        argv = [
            "run", "-d", f"--network={stack.name}_default", f"--user={user}", "-v", f"{keys}:/tmp/.ssh:ro",
            "-e", f"CONFIG_omero_master_host={master}", "-e", f"OMERO_WORKER_NAME=extra{len(started)}",
            "-v", f"{stack.project}/workflows:/workflows:ro",
        ]  # fmt: skip
        if configured:
            argv += ["-v", f"{stack.project}/slurm-config-override.ini:/etc/slurm-config.ini:ro"]
        started.append(engine.run(*argv, *options, stack.tags["BIOMEROWORKER_IMAGE"]))
        return started[-1]

    yield node
    for one in started:
        engine.run("rm", "-f", "-v", one)


def ended(engine: Engine, container: str) -> str:
    """Wait until a node ends; returns its only error line."""
    assert engine.run("wait", container, timeout=60) == "1"
    log = engine.logs(container)
    lines = [line for line in log.splitlines() if "error:" in line]
    assert len(lines) == 1, log
    return lines[0]


def test_without_a_configuration_it_ends(engine: Engine, keys: Path, start: Start) -> None:
    assert "slurm-config.ini" in ended(engine, start(keys, configured=False))


def test_without_the_name_of_the_master_it_ends(engine: Engine, keys: Path, start: Start) -> None:
    assert "CONFIG_omero_master_host is not set" in ended(engine, start(keys, master=""))


def test_with_a_configuration_that_cannot_be_read_it_names_the_line(
    engine: Engine, keys: Path, start: Start, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.ini"
    wrong.write_text("[SLURM]\npoll_seconds = often\n")
    container = start(keys, "-v", f"{wrong}:/etc/slurm-config.ini:ro", configured=False)
    line = ended(engine, container)
    assert "slurm-config.ini:2" in line
    assert "poll_seconds" in line


def test_with_keys_of_another_account_it_ends_unless_it_starts_as_root(
    engine: Engine, keys: Path, start: Start
) -> None:
    line = ended(engine, start(keys, user="1000"))
    assert "uid 1000 cannot read" in line
    assert 'user: "0"' in line


def test_a_read_only_ssh_mount_is_enough_and_keeps_its_modes(engine: Engine, keys: Path, start: Start) -> None:
    (keys / "id_ed25519").chmod(0o400)
    container = start(keys)
    until(lambda: "1 private key (id_ed25519)" in engine.logs(container), 30, "the node has read its keys")
    copied = engine.execute(container, "stat", "-c", "%a %U", "/opt/omero/server/.ssh/id_ed25519")
    assert copied == "600 omero-server"
    assert (keys / "id_ed25519").stat().st_mode & 0o777 == 0o400


def test_it_waits_for_a_master_whose_name_cannot_be_resolved_yet(engine: Engine, keys: Path, start: Start) -> None:
    container = start(keys, master="tomorrow")
    until(lambda: "the name tomorrow" in engine.logs(container), 30, "a log line about the master")
    assert engine.inspect(container)["State"]["Running"]


def test_it_ends_after_the_configured_time_without_a_master(engine: Engine, keys: Path, start: Start) -> None:
    container = start(keys, "-e", "OMERO_MASTER_WAIT_SECONDS=2", master="never")
    assert "the name never (CONFIG_omero_master_host) cannot be resolved" in ended(engine, container)


def test_with_a_refused_key_it_logs_that_and_remains_in_the_grid(engine: Engine, keys: Path, start: Start) -> None:
    for name in ("id_ed25519", "id_ed25519.pub"):
        (keys / name).unlink()
    make_key(keys / "id_ed25519")
    container = start(keys)
    until(lambda: "the cluster refuses our key" in engine.logs(container), 90, "a log line about the refused key")
    assert engine.inspect(container)["State"]["Running"]


def test_with_a_wrong_host_key_it_logs_that_and_sends_nothing(
    engine: Engine, keys: Path, start: Start, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    (keys / "known_hosts").write_text("localslurm " + (tmp_path / "other.pub").read_text())
    container = start(keys)
    until(lambda: "the host key changed" in engine.logs(container), 90, "a log line about the host key")
    assert engine.inspect(container)["State"]["Running"]


def make_key(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True, timeout=30)
