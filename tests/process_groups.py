"""Distribution of the tests over the processes that run them (``pytest -n 3``).

Each process has its own session: it starts the parts of the sandbox that its tests need, on its own ports. Tests
that start the same parts, or that would affect each other, form one group and run in one process. The groups
follow from the fixtures of the tests, which only the processes that collected them know; they write the groups into a
file for the process that distributes the tests. (``--dist loadgroup`` does not see groups with pytest 9.)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

#: Ports of the sandboxes of one process.
PORTS_PER_PROCESS = 1000
FIRST_PORT = 20000

#: The groups that take longest, and begin first.
GRID, OMERO, CONTAINERS, SLURM = "OMERO.grid", "OMERO's API", "containers on the cluster", "the cluster"
FAULTS, REAL_FAULTS = "faults", "faults on the real cluster"
LONG = (GRID, OMERO, CONTAINERS, FAULTS, SLURM, REAL_FAULTS)


def group(file: Path, fixtures: Iterable[str]) -> str:
    """The group of a test: the parts that it starts, or its file, so that fixtures of a module are created once."""
    used = set(fixtures)
    if used & {"grid", "router"} or {"server", "sandbox"} <= used:
        return GRID
    if "server" in used:
        return OMERO
    if "resilience" in file.parts:
        return REAL_FAULTS if "real" in file.parts else FAULTS
    if {"cluster", "sandbox"} <= used:
        return CONTAINERS if "apptainer" in used else SLURM
    return str(file)


def _group_of(item: pytest.Item) -> str:
    return group(item.path, getattr(item, "fixturenames", ()))


def pytest_configure(config: pytest.Config) -> None:
    """Give this process its ports and its pace."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + number * PORTS_PER_PROCESS
    os.environ["SANDBOX_PORTS"] = f"{first}-{first + PORTS_PER_PROCESS}"
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        os.environ.setdefault("TEST_PACE", "2")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the long groups first, and give the group of each test to the process that distributes tests."""
    groups = {item.nodeid: _group_of(item) for item in items}
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(groups[item.nodeid], len(LONG)))
    if given := getattr(config, "workerinput", {}).get("groups"):
        written = Path(given).with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(groups))
        written.replace(given)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Name the file of the groups to a process that is about to be started."""
    node.workerinput["groups"] = str(_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute complete groups."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        """Reads the groups when all processes have collected their tests, which is when it is first needed."""

        groups: dict[str, str] | None = None

        def _split_scope(self, nodeid: str) -> str:
            if self.groups is None:
                self.groups = json.loads(_file(config).read_text())
            return self.groups[nodeid]

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


_GROUPS = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def _file(config: pytest.Config) -> Path:
    """The file of the groups of this session."""
    if _GROUPS not in config.stash:
        folder = config.stash[_GROUPS] = tempfile.TemporaryDirectory(prefix="test-groups-")
        config.add_cleanup(folder.cleanup)
    return Path(config.stash[_GROUPS].name) / "groups.json"
