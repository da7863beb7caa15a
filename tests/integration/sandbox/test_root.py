"""The stored state of a sandbox, and folders that it refuses. Starts nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.orchestrator import Sandbox, expand
from sandbox.processes import Process
from sandbox.root import Root


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sbx-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_ports_and_passwords_are_stored_where_only_the_owner_can_read_them(folder: Path) -> None:
    root = Root(folder)
    with root.locked():
        port, password = root.port("postgres"), root.secret("postgres")
        assert root.port("mariadb") != port
    again = Root(folder)
    assert (again.port("postgres"), again.secret("postgres")) == (port, password)
    assert (folder / "state.json").stat().st_mode & 0o077 == 0


def test_a_root_that_other_accounts_cannot_access_is_refused_and_named(folder: Path) -> None:
    folder.chmod(0o700)
    with pytest.raises(SandboxError, match=f"other accounts cannot access {folder}"):
        Root(folder / "below")


def test_a_root_too_long_for_unix_sockets_is_refused(folder: Path) -> None:
    with pytest.raises(SandboxError, match="too long for Unix sockets"):
        Root(folder / ("x" * 60))


def test_an_unknown_part_is_named_and_the_known_ones_are_listed() -> None:
    with pytest.raises(SandboxError, match=r"unknown part slrum; choose from: .*cluster.*slurmctld"):
        expand(["slrum"])


def test_selecting_a_part_adds_its_dependencies_before_it(folder: Path) -> None:
    names = [part.name for part in Sandbox(Root(folder)).choose(["slurmd-2"])]
    assert names == ["account", "munge", "mariadb", "slurmdbd", "slurmctld", "slurmd-2"]


def test_leaving_out_omero_leaves_out_all_of_its_servers(folder: Path) -> None:
    names = {part.name for part in Sandbox(Root(folder)).choose(without=["omero"])}
    assert "slurmctld" in names
    assert not names & {"icegrid-registry", "icegrid-node", "blitz", "glacier2", "tables", "processor"}


def test_a_reused_pid_is_not_mistaken_for_the_old_process(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    own = Process.of(os.getpid())
    assert own is not None
    own.record(file)
    assert Process.recorded(file) == own
    Process(own.pid, own.started - 1).record(file)
    assert Process.recorded(file) is None


def test_a_port_for_a_part_without_ports_is_refused(folder: Path) -> None:
    with pytest.raises(SandboxError, match="munge has no port; parts with a port: postgres"):
        Sandbox(Root(folder)).use_ports({"munge": 4711})
