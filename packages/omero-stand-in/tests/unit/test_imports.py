"""The package depends on nothing of the repository, and its parts on one another in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "omero_stand_in"
MODULES = {
    ".".join(("omero_stand_in", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(module: str) -> set[str]:
    """Full names of all that a module imports, also in functions and for type checking only."""
    path, found = MODULES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found.add(base)
            found.update(f"{base}.{name.name}" for name in node.names)
    return found


def below(*names: str) -> list[str]:
    return sorted(
        module for module in MODULES if any(f"{module}.".startswith(f"omero_stand_in.{name}.") for name in names)
    )


def test_the_modules_are_found() -> None:
    assert len(MODULES) > 60
    assert "omero_stand_in.context" in imported("omero_stand_in.sessions")
    assert "omero_stand_in.graph" in imported("omero_stand_in.server")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_of_the_repository_is_imported(module: str) -> None:
    assert not {name.partition(".")[0] for name in imported(module)} & {"biomeroworker", "biomero", "sandbox", "tests"}


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        (("graph",), ("hql", "context", "servant", "sessions", "services", "commands", "server")),
        (("hql",), ("context", "servant", "sessions", "services", "commands", "server")),
        (("context",), ("servant", "sessions", "services", "commands", "service_factory", "glacier", "server")),
        (("servant",), ("sessions", "services", "commands", "service_factory", "glacier", "server")),
        (("sessions",), ("services", "commands", "service_factory", "glacier", "server")),
        (("services", "commands"), ("service_factory", "glacier", "server")),
    ],
)
def test_imports_point_one_way(lower: tuple[str, ...], higher: tuple[str, ...]) -> None:
    forbidden = set(below(*higher))
    assert forbidden
    found = {module: imported(module) & forbidden for module in below(*lower)}
    assert {module: names for module, names in found.items() if names} == {}
