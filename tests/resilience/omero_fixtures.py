"""Worlds whose runs come from OMERO, for the tests of this folder that import these fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.omero.conftest import server
from tests.integration.omero.omero_objects import make_group, make_person
from tests.resilience.omero_world import OmeroWorld

__all__ = ["omero_world_of", "server"]


@pytest.fixture
def omero_world_of(server, tmp_path: Path) -> Callable[..., OmeroWorld]:
    """Make worlds by name, each with its own OMERO user."""

    def make(name: str = "world") -> OmeroWorld:
        person = make_person(server, make_group(server, "rwra--"))
        return OmeroWorld(tmp_path / name, f"sqlite:///{tmp_path / name}/log.sqlite", server, person).make()

    return make
