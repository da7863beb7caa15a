"""Fixtures of the container tests: one engine and one build of each target for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container import bases, images
from tests.container import engine as engines
from tests.container.engine import Engine
from tests.container.images import Built


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
