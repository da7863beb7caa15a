"""The tools that create an environment on a new machine report missing requirements at once."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[2]
WHEEL = CHECKOUT / "tools/build_ice_wheel.py"

#: Run the tool with a fake Python version, or without headers.
AS_IF = """
import runpy, sys, sysconfig
sys.version_info = {version} or sys.version_info
sysconfig.get_path = lambda name: {headers!r}
sys.argv = ["build_ice_wheel.py", "--cache", sys.argv[1]]
runpy.run_path({tool!r}, run_name="__main__")
"""


def build(cache: Path, *, version: tuple[int, int] | None = None, headers: str = "/nowhere") -> str:
    """The output of the tool when it refuses, within seconds."""
    program = AS_IF.format(version=version, headers=headers, tool=str(WHEEL))
    done = subprocess.run([sys.executable, "-c", program, cache], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_an_unsupported_python_is_refused_before_the_build(tmp_path: Path, version: tuple[int, int]) -> None:
    message = build(tmp_path, version=version)
    assert f"is Python {version[0]}.{version[1]}" in message
    assert "3.11 to 3.13" in message
    assert "PYTHON3=" in message


def test_missing_headers_are_named_with_their_package_before_the_build(tmp_path: Path) -> None:
    message = build(tmp_path)
    assert "/nowhere/Python.h is missing" in message
    assert "python3-dev" in message


def test_the_build_requirements_of_the_wheel_are_installed() -> None:
    wanted = set((CHECKOUT / "tools/packages.txt").read_text().split())
    for text in (
        re.search(r"Debian: (.*)\)", WHEEL.read_text()),
        re.search(r"apt-get install (.*)\"", WHEEL.read_text()),
    ):
        assert text is not None
        assert set(text[1].split()) <= wanted


def module(path: Path) -> ModuleType:
    """A tool as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("sources.list.d/debian.sources", "Types: deb\nURIs: http://mirror.lab/debian\n", "http://mirror.lab/debian"),
        ("sources.list", "deb [arch=amd64] https://mirror.lab/debian/ bookworm main\n", "https://mirror.lab/debian"),
        ("sources.list.d/ubuntu.sources", "URIs: http://archive.ubuntu.com/ubuntu/\n", "http://deb.debian.org/debian"),
    ],
)
def test_packages_are_downloaded_from_the_configured_mirror_or_from_debian(
    tmp_path: Path, file: str, text: str, found: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert module(CHECKOUT / "tools/get_apptainer.py").mirror(tmp_path) == found
