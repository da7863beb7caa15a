"""`make test`, `make test-browser` and `make test-container` together run every test of this repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_each_folder_of_tests_is_run_by_one_of_the_commands() -> None:
    options = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    modules = [module.relative_to(CHECKOUT / "tests") for module in CHECKOUT.glob("tests/**/test_*.py")]
    folders = {f"tests/{module.parts[0]}" for module in modules}
    collected = {path for path in options["testpaths"] if path.startswith("tests/")}
    assert folders - collected == {"tests/browser", "tests/container"}


def test_the_continuous_integration_runs_all_of_them() -> None:
    assert re.findall(r"^(?:exec )?make (\S+)", (CHECKOUT / ".ci/run").read_text(), re.MULTILINE) == [
        "test",
        "test-browser",
        "test-container",
    ]
