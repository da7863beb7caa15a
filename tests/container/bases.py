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
    """The tag of an image on a parent image (default: `debian`), made by ``bases/<name>.Dockerfile`` or the folder
    ``bases/<name>``.
    """
    parent = parent or debian(engine)
    folder = RECIPES / name
    recipe = folder / "Dockerfile" if folder.is_dir() else RECIPES / f"{name}.Dockerfile"
    files = sorted(one for one in folder.rglob("*") if one.is_file()) if folder.is_dir() else [recipe]
    identity = "\n".join([*(one.read_text() for one in files), engine.inspect(parent)["Id"]])
    tag = f"{PREFIX}/{name}-base:{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    if not engine.has_image(tag):
        with tempfile.TemporaryDirectory() as empty:
            context = folder if folder.is_dir() else empty
            argv = ["-q", "-t", tag, "--build-arg", f"DEBIAN={parent}", "-f", recipe, context]
            engine.run("build", *argv, timeout=BUILD_SECONDS)
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
