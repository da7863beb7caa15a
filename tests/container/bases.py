"""Base images, made here: no registry is needed.

Each is tagged by a hash of what it is made of, so that the next run takes it as it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tempfile
from pathlib import Path

from sandbox.workflow.rootfs import cache_folder, debian_mirror
from tests.container.engine import Engine, EngineError

SUITE = "bookworm"
PREFIX = "biomeroworker-test"
RECIPES = Path(__file__).parent / "bases"

DEBOOTSTRAP_SECONDS = 900
BUILD_SECONDS = 900

#: What the import leaves out: package archives and lists.
_SURPLUS = ("--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*", "--exclude=./dev/*")


def debian(engine: Engine) -> str:
    """The tag of a minimal Debian."""
    tag = f"{PREFIX}/debian:{SUITE}"
    if not engine.has_image(tag):
        engine.run("import", _archive(), tag, timeout=300)
    return tag


def built(engine: Engine, name: str, parent: str | None = None) -> str:
    """The tag of the image that ``bases/<name>.Dockerfile`` describes, on a parent image (default: `debian`)."""
    parent = parent or debian(engine)
    recipe = (RECIPES / f"{name}.Dockerfile").read_text()
    identity = f"{recipe}\n{engine.inspect(parent)['Id']}"
    tag = f"{PREFIX}/{name}-base:{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not engine.has_image(tag):
        with tempfile.TemporaryDirectory() as empty:
            argv = ["-q", "-t", tag, "--build-arg", f"DEBIAN={parent}", "-f", "-", empty]
            engine.run("build", *argv, given=recipe, timeout=BUILD_SECONDS)
    return tag


def _archive() -> Path:
    """A minimal Debian as a tar archive in the cache."""
    folder = cache_folder() / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"debian-{SUITE}.tar"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return archive
        # Not in /tmp: it may be mounted nodev, and debootstrap makes device nodes.
        with tempfile.TemporaryDirectory(prefix="debian-", dir=folder) as scratch:
            root, partial = Path(scratch) / "root", Path(scratch) / "root.tar"
            _command("debootstrap", "--variant=minbase", SUITE, str(root), debian_mirror())
            _command("tar", "-C", str(root), "--numeric-owner", *_SURPLUS, "-cf", str(partial), ".")
            partial.rename(archive)
    return archive


def _command(*argv: str) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEBOOTSTRAP_SECONDS)
    except FileNotFoundError as missing:
        raise EngineError(f"{argv[0]} is missing: tools/install-packages") from missing
    if done.returncode:
        raise EngineError(f"{argv[0]} ended with {done.returncode}\n{(done.stderr or done.stdout)[-1500:]}")
