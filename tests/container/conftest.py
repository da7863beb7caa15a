"""Fixtures of the container tests: one engine and one build of each target for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container import bases, images
from tests.container import engine as engines
from tests.container import stack as stacks
from tests.container.engine import Engine
from tests.container.images import Built
from tests.container.stack import Stack

#: What was measured: written below the tests' results.
FIGURES = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A Docker Engine that answers."""
    with engines.engine() as found:
        yield found


@pytest.fixture(scope="session")
def build_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `docker build` is given: a copy of the checkout, as git sees it."""
    return images.make_context(tmp_path_factory.mktemp("build") / "context")


@pytest.fixture(scope="session")
def debian_image(engine: Engine) -> str:
    """A minimal Debian."""
    return bases.debian(engine)


@pytest.fixture(scope="session")
def node_image(engine: Engine, build_context: Path) -> Built:
    """The target `node`, on a base that is laid out like the omero-server image."""
    return images.build(engine, build_context, "node", bases.built(engine, "node"))


@pytest.fixture(scope="session")
def attached_image(engine: Engine, build_context: Path) -> Built:
    """The target `attached`, on a slim Python."""
    return images.build(engine, build_context, "attached", bases.built(engine, "attached"))


@pytest.fixture(scope="session")
def cluster_image(engine: Engine, build_context: Path) -> str:
    """The SLURM container, on the minimal Debian."""
    return stacks.cluster_image(engine, build_context)


@pytest.fixture(scope="session")
def stack(
    engine: Engine,
    build_context: Path,
    node_image: Built,
    cluster_image: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """The whole deployment, running; every test leaves it so."""
    master = stacks.service_image(
        engine, build_context, "master", "tests/container/master/Dockerfile", node_image.base
    )  # fmt: skip
    tags = {
        "BIOMEROWORKER_IMAGE": node_image.tag,
        "LOCALSLURM_IMAGE": cluster_image,
        "MASTER_IMAGE": master,
        "POSTGRES_IMAGE": bases.built(engine, "postgres"),
        "REGISTRY_IMAGE": bases.built(engine, "registry"),
    }
    with stacks.running(engine, stacks.make_project(tmp_path_factory.mktemp("project")), tags) as started:
        yield started


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> dict[str, str]:
    """What was measured, by name."""
    return pytestconfig.stash.setdefault(FIGURES, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write the figures."""
    if found := config.stash.get(FIGURES, {}):
        terminalreporter.section("figures")
        for name, value in sorted(found.items()):
            terminalreporter.write_line(f"{name}: {value}")
