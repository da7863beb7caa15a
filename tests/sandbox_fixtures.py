"""Parts of the sandbox for tests: each fixture starts its parts once per session; all stop at its end.

A plugin (``-p tests.sandbox_fixtures``, or ``pytest_plugins`` in the top conftest). ``BIOMEROWORKER_TEST_SANDBOX=ROOT``
uses the sandbox in that root instead and does not stop it, which saves its start during development.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.env import variables
from sandbox.root import Root

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sandbox:
    """A sandbox for a test: its root and its command line."""

    path: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m sandbox ARGUMENTS`` on this root."""
        command = [sys.executable, "-m", "sandbox", *arguments, "--root", str(self.path)]
        return subprocess.run(
            command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL
        )

    def up(self, *parts: str) -> None:
        """Start these parts and what they need."""
        done = self.run("up", *(("--only", ",".join(parts)) if parts else ()))
        if done.returncode:
            pytest.fail(f"the sandbox did not come up\n{done.stdout}{done.stderr}", pytrace=False)

    @property
    def env(self) -> Mapping[str, str]:
        """What ``python -m sandbox env`` prints."""
        return variables(Root(self.path))

    def ssh(self, *argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run something on the login node."""
        command = ["ssh", "-F", self.env["SSH_CONFIG"], self.env["SSH_HOST"], *argv]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="session")
def new_sandbox() -> Iterator[Callable[[], Sandbox]]:
    """Create sandboxes with separate roots, without starting them; all are purged at the end."""
    if os.geteuid() != 0:
        pytest.skip("the sandbox needs root: its daemons run under accounts of their own")
    made: list[Sandbox] = []

    def make() -> Sandbox:
        # not pytest's tmp_path: that one is closed to other accounts, and too long for Unix sockets
        path = Path(tempfile.mkdtemp(prefix="sbx-", dir="/tmp"))
        path.chmod(0o755)
        made.append(Sandbox(path))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.run("down", "--purge")
        shutil.rmtree(sandbox.path, ignore_errors=True)


@pytest.fixture(scope="session")
def sandbox(new_sandbox: Callable[[], Sandbox]) -> Sandbox:
    """The session's sandbox; parts are added to it by the fixtures below."""
    given = os.environ.get("BIOMEROWORKER_TEST_SANDBOX")
    return Sandbox(Path(given)) if given else new_sandbox()


@pytest.fixture(scope="session")
def postgres(sandbox: Sandbox) -> str:
    """A database of the session; its SQLAlchemy URL."""
    sandbox.up("postgres")
    return sandbox.env["SQLALCHEMY_URL"]


@pytest.fixture(scope="session")
def registry(sandbox: Sandbox) -> str:
    """A container registry of the session; ``host:port``."""
    sandbox.up("registry")
    return sandbox.env["REGISTRY"]


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox) -> Sandbox:
    """A SLURM cluster with its login node."""
    sandbox.up("cluster")
    return sandbox


@pytest.fixture(scope="session")
def apptainer(cluster: Sandbox) -> Sandbox:
    """The cluster, with Apptainer."""
    cluster.up("apptainer")
    return cluster


@pytest.fixture(scope="session")
def charliecloud(apptainer: Sandbox) -> Sandbox:
    """The cluster, with Apptainer and Charliecloud."""
    apptainer.up("charliecloud")
    return apptainer


@pytest.fixture(scope="session")
def grid(sandbox: Sandbox) -> Sandbox:
    """All of OMERO: IceGrid, Glacier2, and the servers."""
    sandbox.up("omero")
    return sandbox
