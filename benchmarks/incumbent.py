"""The incumbent (biomero 2.8.3) in its own Python environment, which is created once in the cache folder."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

VERSION = "2.8.3"
_REQUIRES = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('biomero')))"


def cache_folder() -> Path:
    """The folder for files that take long to create."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "biomeroworker"


def environment(name: str, fill: Callable[[Path], None], cache: Path | None = None) -> Path:
    """The interpreter of an environment in the cache; ``fill`` installs packages when it is created."""
    folder = (cache or cache_folder()) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, made = folder / "bin/python", folder / ".made"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            fill(python)
            made.touch()
    return python


def install(python: Path, *words: str) -> None:
    """Install packages in the environment of this interpreter."""
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, timeout=900)


def incumbent() -> Path:
    """The interpreter with biomero and its pinned packages; psycopg2 as a wheel, because it alone needs a compiler."""

    def fill(python: Path) -> None:
        install(python, "--no-deps", f"biomero=={VERSION}")
        done = subprocess.run([python, "-c", _REQUIRES], check=True, capture_output=True, text=True)
        wanted = [one for one in json.loads(done.stdout) if "extra ==" not in one]
        install(python, *(re.sub(r"^psycopg2(?![-\w])", "psycopg2-binary", one) for one in wanted))

    return environment(f"incumbent-{VERSION}", fill)
