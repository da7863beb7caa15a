"""The root file systems of the images, as OCI layers in the cache.

debootstrap installs Debian without recommended packages, pip adds wheels, and unused files (caches, documentation,
tests of libraries) are removed. The first layer has the packages of the converter, the second those that the
segmentation needs in addition. Both take a minute and are created once; their file names contain a hash of the list of
contents.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.workflow.oci import Layer

SUITE = "bookworm"
PYTHON = "3.11"  # the version in the suite
PACKAGES = ("python3", "libgomp1")
#: Packages of the converter, as in biomeroworker/remote/convert_zarr_to_tiff.def.
WHEELS = ("numpy>=2,<3", "numcodecs>=0.16,<1", "google-crc32c>=1.5,<2", "tifffile>=2024.8")
#: Further packages of workflows; zarr for those that read OME-Zarr.
SCIENCE = ("scipy>=1.11,<2", "scikit-image>=0.24,<1", "zarr>=3.0,<4")

#: Mount points for runtimes that cannot create them in a read-only image (Charliecloud).
MOUNT_POINTS = ("mnt/0", "mnt/1", "scratch", "work", "results", "data")

_SURPLUS = (
    "var/cache/apt/*", "var/lib/apt/lists/*", "var/log/*", "usr/share/doc/*", "usr/share/man/*", "usr/share/info/*",
    "usr/share/locale/*", "usr/share/lintian/*", "usr/share/zoneinfo/*", "usr/lib/*-linux-gnu/gconv/*",
    "usr/local/lib/python*/dist-packages/**/tests",
    "usr/local/lib/python*/dist-packages/**/__pycache__", "usr/local/lib/python*/dist-packages/bin",
    "usr/local/lib/python*/dist-packages/**/*.a", "dev/*",
)  # fmt: skip

_LIBRARY = f"usr/local/lib/python{PYTHON}/dist-packages"

Report = Callable[[str], None]


def cache_folder() -> Path:
    """The cache: ``$BIOMEROWORKER_CACHE`` or ``~/.cache/biomeroworker``."""
    return Path(os.environ.get("BIOMEROWORKER_CACHE") or Path.home() / ".cache/biomeroworker")


def layers(report: Report) -> tuple[Layer, Layer]:
    """The base and the science layer, from the cache or newly created."""
    recipe = "\n".join((SUITE, PYTHON, *PACKAGES, *WHEELS, *SCIENCE, *MOUNT_POINTS, *_SURPLUS))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    folder = cache_folder() / "workflow"
    folder.mkdir(parents=True, exist_ok=True)
    base, science = folder / f"base-{key}.tar.gz", folder / f"science-{key}.tar.gz"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another sandbox may be creating them
        known = Layer.cached(base), Layer.cached(science)
        if known[0] is not None and known[1] is not None:
            return known[0], known[1]
        return _make(folder, base, science, report)


def _make(folder: Path, base: Path, science: Path, report: Report) -> tuple[Layer, Layer]:
    if os.geteuid() != 0:
        raise SandboxError("debootstrap needs root to create the root file system of the workflow")
    # not in /tmp, which may be mounted nodev: debootstrap creates device nodes
    with tempfile.TemporaryDirectory(prefix="rootfs-", dir=folder) as scratch:
        root = Path(scratch) / "root"
        report(f"installing Debian {SUITE} (about a minute, once)")
        _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), debian_mirror()])
        report("adding wheels: " + ", ".join(re.split("[<>=]", wheel)[0] for wheel in (*WHEELS, *SCIENCE)))
        _install(WHEELS, root / _LIBRARY)
        _strip(root)
        _compile(root, "/usr/lib/python" + PYTHON, "/" + _LIBRARY)
        report("packing the layers")
        lower = Layer.of_folder(root, base)
        upper = Path(scratch) / "science"
        _add_science(root, upper)
        return lower, Layer.of_folder(upper, science)


def _add_science(root: Path, upper: Path) -> None:
    """Install the science wheels in a separate folder, compile them in the base, and move them to ``upper``."""
    staging = upper.with_name("staging")
    constraints = upper.with_name("constraints.txt")
    freeze = [sys.executable, "-m", "pip", "freeze", "--path", str(root / _LIBRARY)]
    constraints.write_text(subprocess.run(freeze, capture_output=True, text=True, check=True, timeout=60).stdout)
    _install(SCIENCE, staging, f"--constraint={constraints}")
    new = [one.name for one in staging.iterdir() if not (root / _LIBRARY / one.name).exists()]
    for name in new:
        (staging / name).rename(root / _LIBRARY / name)
    _strip(root)
    new = [name for name in new if (root / _LIBRARY / name).exists()]
    _compile(root, *(f"/{_LIBRARY}/{name}" for name in new))
    target = upper / _LIBRARY
    target.mkdir(parents=True)
    for folder in (upper, *target.relative_to(upper).parents):
        (upper / folder).chmod(0o755)
    for name in new:
        (root / _LIBRARY / name).rename(target / name)


def debian_mirror() -> str:
    """The Debian mirror of this machine."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists() and (found := re.search(r"^URIs:\s*(\S+)", sources.read_text(), re.MULTILINE)):
        return found[1]
    return "http://deb.debian.org/debian"


def _install(wheels: Sequence[str], target: Path, *options: str) -> None:
    """Install wheels for the container's Python with pip of this machine, so that the container needs no pip."""
    _run([
        sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:",
        "--root-user-action=ignore", "--implementation=cp", f"--python-version={PYTHON}",
        "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_17_x86_64", "--platform=manylinux2014_x86_64",
        f"--target={target}", *options, *wheels,
    ])  # fmt: skip


def _strip(root: Path) -> None:
    for pattern in _SURPLUS:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    for name in MOUNT_POINTS:
        point = root / name
        point.mkdir(parents=True, exist_ok=True)
        point.chmod(0o755)


def _compile(root: Path, *folders: str) -> None:
    """Compile all modules, because the image is read-only; with hashes, because the layer has no times."""
    compileall = ["python3", "-m", "compileall", "-q", "-f", "--invalidation-mode=unchecked-hash", *folders]
    _run(["chroot", str(root), *compileall], accept=(0, 1))  # 1: a file with syntax of another Python version


def _run(argv: list[str], accept: tuple[int, ...] = (0,)) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=900)
    except FileNotFoundError as missing:
        raise SandboxError(f"{argv[0]} is not installed: run tools/install-packages") from missing
    if done.returncode not in accept:
        tail = (done.stderr or done.stdout).strip().splitlines()[-15:]
        raise SandboxError(f"{argv[0]} ended with {done.returncode}\n  " + "\n  ".join(tail))
