"""Create the Python environment of OMERO.web and OMERO.biomero, once, in the cache folder.

The versions are those of ``requirements.lock``. The folder's name contains a digest of the lock and the version of
Python, so a new lock creates a new environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sandbox.errors import SandboxError

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
LOCK = HERE / "requirements.lock"
#: The Python versions that OMERO.biomero and biomeroworker both support.
PYTHONS = ("3.12", "3.13")
#: Seconds for the build of the Ice wheel, which compiles C++, and for the installation.
BUILD_TIMEOUT_SECONDS = 1800


def cache_folder() -> Path:
    """``$BIOMEROWORKER_CACHE``, otherwise ``~/.cache/biomeroworker``."""
    given = os.environ.get("BIOMEROWORKER_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "biomeroworker"


def _candidates() -> Iterator[str]:
    if given := os.environ.get("SANDBOX_WEB_PYTHON"):
        yield given
        return
    for version in PYTHONS:
        yield f"python{version}"
        versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
        yield from (str(found / "bin/python") for found in sorted(versions.glob(f"{version}.*"), reverse=True))


def interpreter() -> Path:
    """The first Python 3.12 or 3.13: ``$SANDBOX_WEB_PYTHON``, on the PATH, or of pyenv. Raises `SandboxError`."""
    program = "import sys; print(sys.executable, '%d.%d' % sys.version_info[:2])"
    for candidate in _candidates():
        try:
            done = subprocess.run([candidate, "-c", program], capture_output=True, text=True, timeout=30)
        except OSError:
            continue
        path, _, version = done.stdout.strip().rpartition(" ")
        if done.returncode == 0 and version in PYTHONS:
            return Path(path)
    raise SandboxError(
        "OMERO.web with OMERO.biomero needs Python 3.12 or 3.13: install one, or set SANDBOX_WEB_PYTHON to its path"
    )


def python_of_web() -> Path:
    """The interpreter of the environment, which is created if it does not exist. Raises `SandboxError`."""
    base = interpreter()
    digest = hashlib.sha256(LOCK.read_bytes() + str(base).encode()).hexdigest()[:12]
    folder = cache_folder() / "web" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / ".complete"
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _create(folder, base)
            complete.touch()
    return folder / "bin/python"


def _create(folder: Path, base: Path) -> None:
    print(f"creating the Python environment of OMERO.web in {folder}, once", file=sys.stderr, flush=True)
    wheel = _run([str(base), str(CHECKOUT / "tools/build_ice_wheel.py"), "--cache", str(cache_folder())]).strip()
    _run([str(base), "-m", "venv", str(folder)])
    pip = [str(folder / "bin/python"), "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps"]
    _run([*pip, wheel, "-r", str(LOCK)])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_TIMEOUT_SECONDS)
    if done.returncode:
        raise SandboxError(f"{' '.join(command[:4])} ended with {done.returncode}; see its messages above")
    return done.stdout


if __name__ == "__main__":
    print(python_of_web())
