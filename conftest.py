"""Fixtures for all tests, those of `packages/` included, and how tests are shared out among processes that run them.

Each process that runs tests (``pytest -n 3 --dist loadgroup``) has a session of its own: it starts the parts of the
sandbox that its tests name, on ports of its own. Tests that start the same parts therefore go to one process.
"""

from __future__ import annotations

import os

import pytest

pytest_plugins = ["tests.sandbox_fixtures", "tests.database_fixtures", "tests.site_fixtures"]

#: Ports of the sandboxes of one process that runs tests.
PORTS_PER_WORKER = 1000
FIRST_PORT = 20000

#: Groups of tests that stay in one process, those that take longest first.
OMERO, SLURM, FAULTS, REAL_FAULTS = "omero", "slurm", "faults", "faults on the real cluster"
LONG = (OMERO, SLURM, FAULTS, REAL_FAULTS)


def pytest_configure(config: pytest.Config) -> None:
    """Give this process its ports, and say whether it is alone on the machine."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        os.environ.setdefault("TEST_PACE", "2")
    first = FIRST_PORT + int(worker) * PORTS_PER_WORKER
    os.environ["SANDBOX_PORTS"] = f"{first}-{first + PORTS_PER_WORKER}"


def _group(item: pytest.Item) -> str:
    """Tests of a group share what takes long to start, or would disturb one another in two processes."""
    fixtures = set(getattr(item, "fixturenames", ()))
    folders = item.path.parts
    if fixtures & {"server", "grid", "router"}:
        return OMERO
    if "resilience" in folders:
        return REAL_FAULTS if "real" in folders else FAULTS
    if {"cluster", "sandbox"} <= fixtures:
        return SLURM
    return str(item.path)  # fixtures of a module are made once


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the group, before pytest-xdist looks for it."""
    item.add_marker(pytest.mark.xdist_group(_group(item)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the groups that take longest begin first."""
    order = {name: number for number, name in enumerate(LONG)}

    def place(item: pytest.Item) -> int:
        marker = item.get_closest_marker("xdist_group")
        return order.get(marker.args[0], len(LONG)) if marker else len(LONG)

    items.sort(key=place)
