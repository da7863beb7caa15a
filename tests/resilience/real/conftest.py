"""Worlds on the real cluster of the session, which is left as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.parts.slurm import slurm_conf
from tests.database_fixtures import new_database
from tests.links import Line
from tests.resilience.real.deployment import Admin, RealWorld


@pytest.fixture
def admin(cluster: Any) -> Iterator[Admin]:
    """The admin of the session's cluster, who leaves it as it was."""
    admin = Admin(cluster)
    before = slurm_conf(admin.root).read_text()
    yield admin
    if slurm_conf(admin.root).read_text() != before:
        slurm_conf(admin.root).write_text(before)
        admin.configure()
    cluster.up("cluster")
    admin.run("scancel", "-u", cluster.env["CLUSTER_USER"])


@pytest.fixture
def new_world(postgres: str, admin: Admin, tmp_path: Path) -> Iterator[Callable[..., RealWorld]]:
    """Make worlds, each on a database of its own."""
    with contextlib.ExitStack() as made:

        def make(**more: Any) -> RealWorld:
            url = made.enter_context(new_database(postgres))
            world = RealWorld(tmp_path / f"real-{os.urandom(4).hex()}", url, admin, **more)
            made.callback(world.remove)
            return world.make()

        yield make


@pytest.fixture
def world(new_world: Callable[..., RealWorld]) -> RealWorld:
    return new_world()


@pytest.fixture
def ssh_line(cluster: Any, tmp_path: Path) -> Iterator[tuple[Line, Path]]:
    """A line to the login node, and the SSH configuration that uses it."""
    config = Path(cluster.env["SSH_CONFIG"]).read_text().splitlines()
    (port,) = [line.split()[1] for line in config if line.split()[:1] == ["Port"]]
    line = Line(int(port))
    changed = [
        f"  Port {line.port}\n  HostKeyAlias [127.0.0.1]:{port}" if one.split()[:1] == ["Port"] else one
        for one in config
    ]
    (tmp_path / "ssh_config").write_text("\n".join(changed) + "\n")
    yield line, tmp_path / "ssh_config"
    line.close()
