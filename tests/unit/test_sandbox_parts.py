"""Selection of the sandbox's parts."""

from __future__ import annotations

from pathlib import Path

from sandbox.orchestrator import Sandbox
from sandbox.root import Root


def names(**options: list[str]) -> list[str]:
    return [part.name for part in Sandbox(Root(Path("/tmp/no-sandbox"))).choose(**options)]


def test_an_optional_part_starts_only_if_it_is_named() -> None:
    assert "web" not in names()
    assert names(optional=["web"]) == [*names(), "web"]
    assert names(only=["web"])[-1] == "web"


def test_a_part_starts_after_the_parts_that_it_needs() -> None:
    assert names(only=["glacier2"]) == ["icegrid-registry", "icegrid-node", "blitz", "glacier2"]
