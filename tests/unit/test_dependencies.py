"""What the code imports is declared, and what is declared is imported: per distribution, and for the tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
#: Modules that are called otherwise than the distribution that has them.
DISTRIBUTIONS = {
    "Glacier2": "zeroc-ice", "Ice": "zeroc-ice", "IceGrid": "zeroc-ice", "IceStorm": "zeroc-ice", "PIL": "pillow",
    "omero": "omero-py", "omero_ext": "omero-py", "omero_model_ImageI": "omero-py", "omeroweb": "omero-web",
    "psycopg2": "psycopg2-binary",
    "pydantic_core": "pydantic",
    "skimage": "scikit-image", "xdist": "pytest-xdist", "yaml": "pyyaml",
}  # fmt: skip
#: Loaded by name and not by an import: SQLAlchemy's driver.
LOADED_BY_NAME = {"psycopg2-binary"}
#: Top-level modules of this repository.
OWN = {"benchmarks", "conftest", "kinds", "sandbox", "tests"}

#: Scripts for single steps of a run need this distribution; docs/scripts.md says so.
USED_IF_INSTALLED = {"biomero"}
OWN_DISTRIBUTIONS = {"biomero", "biomeroworker", "omero-stand-in"}


def imported(*folders: str) -> set[str]:
    """The distributions whose modules are imported in these folders, the standard library left out."""
    return {
        canonicalize_name(DISTRIBUTIONS.get(module, module))
        for folder in folders
        for file in (CHECKOUT / folder).rglob("*.py")
        for module in _modules(ast.parse(file.read_text()))
        if module not in sys.stdlib_module_names and module not in OWN
    }


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def declared(project: str, *extras: str) -> set[str]:
    """The distributions that a pyproject.toml names, with those of its extras."""
    found: dict[str, Any] = tomllib.loads((CHECKOUT / project / "pyproject.toml").read_text())["project"]
    optional = found.get("optional-dependencies", {})
    requirements = [*found["dependencies"], *(one for extra in extras for one in optional[extra])]
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def locked(lock: str) -> set[str]:
    """The distributions in a file of pinned versions."""
    lines = re.findall(r"^([A-Za-z0-9._-]+)==", (CHECKOUT / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(line) for line in lines}


@pytest.mark.parametrize(
    ("folders", "project", "extras"),
    [
        (("biomeroworker", "startup", "scripts"), ".", ("omero",)),
        (("packages/biomero/biomero",), "packages/biomero", ()),
        (("packages/omero-stand-in/omero_stand_in",), "packages/omero-stand-in", ()),
    ],
    ids=["biomeroworker", "biomero", "omero-stand-in"],
)
def test_a_distribution_declares_what_it_imports_and_nothing_else(
    folders: tuple[str, ...], project: str, extras: tuple[str, ...]
) -> None:
    name = tomllib.loads((CHECKOUT / project / "pyproject.toml").read_text())["project"]["name"]
    assert imported(*folders) - {name} - USED_IF_INSTALLED == declared(project, *extras) - LOADED_BY_NAME


def test_only_the_scripts_for_single_steps_need_the_distribution_biomero() -> None:
    assert "biomero" in imported("scripts/data")
    assert "biomero" not in imported("biomeroworker", "startup", "scripts/admin", "scripts/workflows")


def test_only_the_extra_omero_needs_ice() -> None:
    assert {"omero-py", "zeroc-ice"} & declared(".") == set()


def test_tests_sandbox_and_benchmarks_import_what_is_declared() -> None:
    used = imported("tests", "packages/biomero/tests", "sandbox", "benchmarks", "tools")
    known = declared(".", "omero", "dev") | declared("packages/biomero") | locked("sandbox/web/requirements.lock")
    assert used - known - OWN_DISTRIBUTIONS == set()


def test_the_lock_has_all_that_is_declared_but_the_wheel_that_is_built_here() -> None:
    wanted = declared(".", "omero", "dev", "docs") | declared("packages/biomero")
    wanted |= declared("packages/omero-stand-in", "test")
    assert wanted - locked("requirements.lock") - OWN_DISTRIBUTIONS == {"zeroc-ice"}
