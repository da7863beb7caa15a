"""Builds of the checkout's Dockerfile on the local bases."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi

from tests.container.bases import PREFIX
from tests.container.engine import Engine, Result

CHECKOUT = Path(__file__).parents[2]
BUILD_SECONDS = 1500  # zeroc-ice is compiled where its wheel cannot be handed in

#: What a build of the tests claims in its labels.
REVISION = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "https://example.org/biomeroworker"


@dataclass(frozen=True)
class Built:
    """An image of the Dockerfile, its base, and the seconds that the build took (few where Docker had its layers)."""

    tag: str
    base: str
    seconds: float


def make_context(folder: Path) -> Path:
    """Copy the checkout (what git knows or would add) to a folder, with the Ice wheel if it can be used."""
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        source, target = CHECKOUT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    if wheel := _ice_wheel():
        shutil.copy(wheel, folder / "container/image/wheels" / wheel.name)
    return folder


def _ice_wheel() -> Path | None:
    """The wheel of `make install`, where this machine is like the images: Debian 12 with Python 3.11."""
    if sys.version_info[:2] != (3, 11) or platform.freedesktop_os_release().get("VERSION_CODENAME") != "bookworm":
        return None
    argv = [sys.executable, str(CHECKOUT / "tools/build_ice_wheel.py")]
    return Path(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=900).stdout.strip())


def attempt_build(
    engine: Engine,
    context: Path,
    target: str,
    *,
    tag: str | None = None,
    arguments: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Result:
    """Build one target of the Dockerfile; ``options`` are further ones of `docker build`."""
    argv = ["build", "--target", target, "--progress=plain", *options]
    if tag:
        argv += ["-t", tag]
    for name, value in (arguments or {}).items():
        argv += ["--build-arg", f"{name}={value}"]
    return engine.attempt(*argv, context, timeout=BUILD_SECONDS)


def build(
    engine: Engine, context: Path, target: str, base: str, *, suffix: str = "", options: Sequence[str] = ()
) -> Built:
    """Build one target on a base, with labels, and tag it by its content.

    Unless there are ``options``, this machine's CA bundle and pip configuration are handed in.
    """
    tag = f"{PREFIX}/{target}:{_digest(context, base)}{suffix}"
    arguments = {f"{target.upper()}_BASE": base, "VERSION": version(), "REVISION": REVISION, "SOURCE": SOURCE}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chosen = options or secrets(Path(folder))
        done = attempt_build(engine, context, target, tag=tag, arguments=arguments, options=chosen)
    assert done.status == 0, f"the target {target} does not build:\n{done.errors[-6000:]}"
    return Built(tag, base, time.monotonic() - started)


def secrets(folder: Path, mark: str = "") -> list[str]:
    """This machine's CA bundle and pip configuration, as options of `docker build`.

    With a mark both are given in any case, and the mark is a comment in each.
    """
    options = []
    bundle = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE") or (certifi.where() if mark else "")
    if bundle:
        text = Path(bundle).read_text() + (f"\n# {mark}\n" if mark else "")
        options.append(f"--secret=id=ca_bundle,src={_private(folder / 'ca.pem', text)}")
    found = {name: os.environ.get(f"PIP_{name.upper()}") for name in ("index_url", "extra_index_url", "trusted_host")}
    lines = [f"{name.replace('_', '-')} = {value}" for name, value in found.items() if value]
    if lines or mark:
        text = "\n".join([f"# {mark}", "[global]", *lines, ""])
        options.append(f"--secret=id=pip_conf,src={_private(folder / 'pip.conf', text)}")
    return options


def _private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def version() -> str:
    """The version in pyproject.toml."""
    project: dict[str, str] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return project["version"]


def _digest(context: Path, base: str) -> str:
    found = hashlib.sha256(base.encode())
    for file in sorted(one for one in context.rglob("*") if one.is_file()):
        found.update(f"{file.relative_to(context)}\0".encode())
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:12]
