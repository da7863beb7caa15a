"""A laboratory for the browser tests: the sandbox with OMERO.web, workflows, a user with images, and the scripts."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import omero.clients  # noqa: F401 (first, because modules of omero-py import each other in a circle)
from omero.gateway import BlitzGateway

from sandbox import demo_data, deployment
from sandbox.workflow.build import build_and_push
from tests.integration.omero.user_name_script import SCRIPT as USER_NAME_SCRIPT
from tests.sandbox_fixtures import CHECKOUT, Sandbox

#: The folder of the scripts on the server, and in the menu of OMERO.web.
SCRIPT_FOLDER = "BIOMERO"
#: The folder in it with the scripts for biologists.
WORKFLOW_SCRIPTS = "workflows"
COMMAND_TIMEOUT_SECONDS = 300
BIOMEROWORKER = str(Path(sys.executable).parent / "biomeroworker")


@dataclass(frozen=True)
class Lab:
    """The addresses and accounts of a running laboratory."""

    url: str
    user: str
    password: str
    root_password: str
    omero: tuple[str, int]
    data: demo_data.DemoData
    env: dict[str, str]

    @contextmanager
    def connected(self, user: str = "", password: str = "") -> Iterator[BlitzGateway]:
        """A connection to OMERO, as the biologist unless another user is given."""
        connection = BlitzGateway(
            user or self.user, password or self.password, host=self.omero[0], port=self.omero[1], secure=True
        )
        assert connection.connect(), connection.getLastError()
        try:
            yield connection
        finally:
            connection.close()

    def biomeroworker(self, *arguments: str) -> str:
        """The output of a command of biomeroworker."""
        command = [BIOMEROWORKER, *arguments]
        done = subprocess.run(
            command, cwd=CHECKOUT, env={**os.environ, **self.env}, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def running(sandbox: Sandbox, extra: str = "") -> Iterator[Lab]:
    """Start everything; ``extra`` is appended to the ini file, below ``[WORKFLOWS]``."""
    sandbox.up("omero", "cluster", "apptainer", "registry", "postgres", "web")
    env = dict(sandbox.env)
    build_and_push(env["REGISTRY"], lambda line: None)
    deployment.write(sandbox.path, env)
    config = Path(env["BIOMERO_CONFIG"])
    config.write_text(config.read_text().rstrip() + "\n" + extra)
    password = secrets.token_urlsafe(12)
    omero_address = (env["OMERO_HOST"], int(env["OMERO_PORT"]))
    data = demo_data.put(omero_address, env["OMERO_ROOT_PASSWORD"], password)
    env |= {"OMERO_USER": "root", "OMERO_PASSWORD": env["OMERO_ROOT_PASSWORD"]}
    lab = Lab(env["OMERO_WEB"], data.user, password, env["OMERO_ROOT_PASSWORD"], omero_address, data, env)
    lab.biomeroworker("init")
    _upload_scripts(lab)
    with _supervisor(lab, sandbox.path / "log/supervise.log"):
        yield lab


def _upload_scripts(lab: Lab) -> None:
    """Upload all scripts as official ones, and another one: OMERO.web leaves out a folder that is the only one."""
    folder = CHECKOUT / "scripts"
    scripts = {
        f"{SCRIPT_FOLDER}/{script.relative_to(folder)}": script.read_text() for script in sorted(folder.rglob("*.py"))
    }
    with lab.connected("root", lab.root_password) as connection:
        service = connection.getScriptService()
        known = {f"{script.path.val}{script.name.val}".lstrip("/"): script for script in service.getScripts()}
        for path, text in {**scripts, "omero/util_scripts/User_Name.py": USER_NAME_SCRIPT}.items():
            if path in known:
                service.editScript(known[path], text)
            else:
                service.uploadOfficialScript(path, text)


@contextmanager
def _supervisor(lab: Lab, log: Path) -> Iterator[None]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            [BIOMEROWORKER, "supervise"], cwd=CHECKOUT, env={**os.environ, **lab.env},
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
