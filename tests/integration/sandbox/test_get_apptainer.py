"""Apptainer is installed from the cache, and a damaged cache is detected."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox_fixtures import CHECKOUT, Sandbox

pytestmark = pytest.mark.sandbox


def get_apptainer(cache: Path, prefix: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool with `path` for a PATH."""
    tool = CHECKOUT / "tools/get_apptainer.py"
    command = [sys.executable, str(tool), "--cache", str(cache), "--prefix", str(prefix)]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, timeout=120)


@pytest.fixture
def no_apt(tmp_path: Path) -> Path:
    """A PATH with the programs for unpacking and none for downloads."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("dpkg-deb", "patchelf", "tar", "xz", "zstd", "rm"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def cache(apptainer: Sandbox, tmp_path: Path) -> Path:
    """A copy of the cache that the sandbox filled."""
    filled = Path(os.environ.get("BIOMEROWORKER_CACHE") or Path.home() / ".cache/biomeroworker")
    shutil.copytree(filled / "apptainer", tmp_path / "cache/apptainer")
    return tmp_path / "cache"


def test_a_cached_package_is_installed_without_a_download(cache: Path, no_apt: Path, tmp_path: Path) -> None:
    done = get_apptainer(cache, tmp_path / "prefix", no_apt)
    assert done.stdout.startswith("apptainer version 1."), done.stderr


def test_a_damaged_package_is_not_installed(cache: Path, no_apt: Path, tmp_path: Path) -> None:
    package = next((cache / "apptainer").glob("apptainer_*.deb"))
    package.write_bytes(package.read_bytes()[:-1] + b"?")
    done = get_apptainer(cache, tmp_path / "prefix", no_apt)
    assert f"{package} is missing or damaged" in done.stdout
    assert done.returncode == 1
    assert "apt-get is not installed" in done.stderr
    assert not (tmp_path / "prefix").exists()
