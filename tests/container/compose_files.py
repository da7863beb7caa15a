"""The Compose files of this repository, read by both programs that they are for.

``docker-compose`` 1.29 is Debian's. Compose v2 is built on the Go library compose-go: `compose_v2/` is a program of a
few lines around its loader, built once into the cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sandbox.workflow.rootfs import cache_folder
from tests.container.engine import COMPOSE, Result
from tests.container.images import CHECKOUT

MAIN = "docker-compose.yml"
#: What an admin sets in .env besides what .env.example has, by file.
OVERLAYS: Mapping[str, Mapping[str, str]] = {
    "deploy/docker-compose.ssl.yml": {"OMERO_WEB_HOST": "omero.example.org", "CERTIFICATES_FOLDER": "./certificates"},
    "deploy/docker-compose.desktop-clients.yml": {},
    "deploy/docker-compose.second-node.yml": {},
    "deploy/docker-compose.external-master.yml": {"OMERO_MASTER_HOST": "omero.example.org"},
}
STAND_ALONE: Mapping[str, Mapping[str, str]] = {
    "deploy/docker-compose.existing-omero.yml": {"OMERO_HOST": "omero.example.org", "OMERO_USER": "biomero"},
    "deploy/docker-compose.external-worker.yml": {
        "OMERO_MASTER_HOST": "omero.example.org",
        "OMERO_WORKER_PUBLISHED_HOST": "worker.example.org",
    },
}
FILES = (MAIN, *OVERLAYS, *STAND_ALONE)

BUILD_SECONDS = 600
CONFIG_SECONDS = 60


def make_project(folder: Path) -> Path:
    """Copy what Compose reads into an empty folder."""
    shutil.copy(CHECKOUT / MAIN, folder)
    shutil.copy(CHECKOUT / ".env.example", folder)
    shutil.copytree(CHECKOUT / "deploy", folder / "deploy")
    return folder


def write_env(project: Path, values: Mapping[str, str]) -> None:
    """Make .env as an admin does: a copy of .env.example, and values below it."""
    lines = [(project / ".env.example").read_text(), *(f"{name}={value}" for name, value in values.items())]
    (project / ".env").write_text("\n".join([*lines, ""]))


def config_v1(project: Path, files: Sequence[str], profiles: Sequence[str] = ()) -> Result:
    """`docker-compose config` of version 1.29; the output is YAML."""
    options = [f"--profile={one}" for one in profiles]
    return _run(project, [COMPOSE, "--project-directory", ".", *options, *_named(files), "config"])


def config_v2(project: Path, files: Sequence[str], profiles: Sequence[str] = ()) -> Result:
    """What `docker compose config` reads; the output is JSON, which is YAML too."""
    return _run(project, [str(compose_v2()), *(f"--profile={one}" for one in profiles), *files])


def model(result: Result) -> dict[str, Any]:
    """The project that a successful `config` printed."""
    assert result.status == 0, result.errors
    found: dict[str, Any] = yaml.safe_load(result.output)
    return found


def compose_v2() -> Path:
    """The program in `compose_v2/`, built if it is not in the cache."""
    source = Path(__file__).parent / "compose_v2"
    content = b"".join((source / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    program = cache_folder() / "containers" / f"compose-v2-{hashlib.sha256(content).hexdigest()[:12]}"
    if not program.exists():
        assert shutil.which("go"), "Go is missing: install version 1.24 or newer"
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_name(f".{program.name}.{os.getpid()}")
        argv = ["go", "build", "-o", str(partial), "."]
        built = subprocess.run(argv, cwd=source, capture_output=True, text=True, timeout=BUILD_SECONDS)
        assert built.returncode == 0, built.stderr
        partial.rename(program)
    return program


def as_written(file: str) -> dict[str, Any]:
    """A Compose file, without its variables replaced."""
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / file).read_text())
    return found


def _named(files: Sequence[str]) -> list[str]:
    return [word for file in files for word in ("-f", file)]


def _run(project: Path, argv: Sequence[str]) -> Result:
    """Only what an admin's shell has reaches Compose: no variable of these tests."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/admin"}
    done = subprocess.run(
        argv,
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=CONFIG_SECONDS,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def dumped(value: object) -> str:
    """A part of a project as text, to look for words in it."""
    return json.dumps(value)
