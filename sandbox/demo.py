"""``make demo``: process real images from OMERO on a SLURM cluster, and import the results.

If ``OMERO_HOST``, ``OMERO_PORT`` and ``OMERO_ROOT_PASSWORD`` are set, the demo uses that server: it starts the other
parts of the sandbox and attaches the Processor in user mode. Otherwise it uses the OMERO of the sandbox, where IceGrid
starts the Processor.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox import demo_data, deployment
from sandbox.env import variables
from sandbox.errors import SandboxError
from sandbox.orchestrator import Sandbox, require_root
from sandbox.root import Root, default_root
from sandbox.workflow.build import build_and_push

CHECKOUT = Path(__file__).resolve().parents[1]
SCRIPT = CHECKOUT / "scripts/workflows/SLURM_Run_Workflow.py"
OFFICIAL_PATH = "BIOMERO/workflows/SLURM_Run_Workflow.py"
#: Time limit of each command in seconds; the longest are the script with its run and the pulls of images.
COMMAND_TIMEOUT_SECONDS = 900
#: The command of omero-py rejects root, as which containers often run; this calls its main function.
OMERO_COMMAND = [
    sys.executable,
    "-W",
    "ignore",
    "-c",
    "import sys, omero.cli; sys.argv[0] = 'omero'; sys.exit(omero.cli.argv())",
]

console = Console(highlight=False, soft_wrap=True)


class Demo:
    """One demo."""

    def __init__(self, root: Root, output: Path, existing: dict[str, str]) -> None:
        self.root, self.output, self.existing = root, output, existing
        self.env: dict[str, str] = {}
        self._started = time.monotonic()

    def step(self, text: str) -> None:
        """Print the next step with the elapsed time."""
        console.print(f"[bold cyan]{time.monotonic() - self._started:6.1f} s[/]  {text}")

    def run(self, stack: ExitStack) -> int:
        """Run all steps; returns the exit code."""
        self._start_sandbox()
        self.step("building the container of the workflow and pushing it to the local registry")
        build_and_push(self.env["REGISTRY"], _indented)
        deployment.write(self.root.path, self.env)
        worker = {**os.environ, **self.env}
        self.step("biomeroworker init: the cluster pulls the images")
        self._biomeroworker(worker, "init")

        self.step("importing the images into OMERO")
        password = secrets.token_urlsafe(12)
        data = demo_data.put(self._address(), self.env["OMERO_ROOT_PASSWORD"], password)
        console.print(f"         project {data.project}, dataset {data.dataset}, images {data.images}")

        self.step("starting the supervisor" + (" and attaching the Processor in user mode" if self.existing else ""))
        as_root = {**worker, "OMERO_USER": "root", "OMERO_PASSWORD": self.env["OMERO_ROOT_PASSWORD"]}
        stack.enter_context(_running(as_root, self.root.path / "log/supervise.log", "supervise"))
        if self.existing:
            # a script of the demo user is executed only by the Processor that is attached for this user
            as_user = {**worker, "OMERO_USER": data.user, "OMERO_PASSWORD": password}
            stack.enter_context(_running(as_user, self.root.path / "log/attach.log", "attach"))

        self.step("omero script upload" + ("" if self.existing else " --official"))
        script = self._upload_own(data, password) if self.existing else self._upload_official()
        self.step(f"omero script launch {script} on dataset {data.dataset}")
        started = time.monotonic()
        self._launch(script, data, password)
        return self._summary(worker, data, password, time.monotonic() - started)

    def _start_sandbox(self) -> None:
        sandbox = Sandbox(self.root)
        self.step("starting the sandbox" + (" without OMERO" if self.existing else ""))
        with self.root.locked():
            sandbox.up(sandbox.choose([], ["omero"] if self.existing else []), _indented)
        self.env = {**variables(self.root), **self.existing}

    def _address(self) -> tuple[str, int]:
        return self.env["OMERO_HOST"], int(self.env["OMERO_PORT"])

    # -- the command of OMERO ------------------------------------------------------------------------------

    def _omero(self, session: Path, *arguments: str, secret: str = "", cwd: Path | None = None) -> str:
        """Run ``omero``; the password is passed in an environment variable, not on the command line."""
        environment = {
            **os.environ,
            "HOME": str(session),
            "OMERO_USERDIR": str(session / "omero"),
            "OMERODIR": str(session),
            **({"OMERO_PASSWORD": secret} if secret else {}),
        }
        done = subprocess.run(
            [*OMERO_COMMAND, *arguments],
            env=environment,
            text=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
        )
        if done.returncode:
            raise SandboxError(
                f"omero {' '.join(arguments[:2])} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout + done.stderr

    def _session(self, user: str, password: str) -> Path:
        folder = self.root.folder(f"omero-cli-{user}")
        (folder / "etc").mkdir(exist_ok=True)
        (folder / "etc/ice.config").touch()
        host, port = self._address()
        self._omero(folder, "login", "-s", host, "-p", str(port), "-u", user, secret=password)
        return folder

    def _upload_official(self) -> int:
        session = self._session("root", self.env["OMERO_ROOT_PASSWORD"])
        known = self._omero(session, "script", "list")
        found = re.search(rf"^\s*(\d+)\s*\|.*{re.escape(OFFICIAL_PATH)}", known, re.MULTILINE)
        if found:
            self._omero(session, "script", "replace", found[1], str(SCRIPT))
            return int(found[1])
        # the path on the command line becomes the path of the script on the server
        folder = self.root.folder("scripts")
        here = folder / OFFICIAL_PATH
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(SCRIPT.read_text())
        return _script_id(
            self._omero(session, "script", "upload", OFFICIAL_PATH, "--official", cwd=self.root.folder("scripts"))
        )

    def _upload_own(self, data: demo_data.DemoData, password: str) -> int:
        return _script_id(self._omero(self._session(data.user, password), "script", "upload", str(SCRIPT)))

    def _launch(self, script: int, data: demo_data.DemoData, password: str) -> None:
        session = self._session(data.user, password)
        name = deployment.WORKFLOW
        output = self._omero(
            session,
            "script",
            "launch",
            str(script),
            "Data_Type=Dataset",
            f"IDs={data.dataset}",
            f"{name}=True",
            f"{name}_Version={deployment.VERSION}",
            f"{name}_|_export_csv=True",
            "3a) Import into NEW Dataset=nuclei",
        )
        for line in without_objects(output).splitlines():
            if line.strip():
                console.print(f"         {line}", markup=False)

    # -- results ----------------------------------------------------------------------------------------------

    def _biomeroworker(self, env: dict[str, str], *arguments: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "biomeroworker"), *arguments],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise SandboxError(f"biomeroworker {arguments[0]} ended with {done.returncode}")
        return done.stdout

    def _summary(self, worker: dict[str, str], data: demo_data.DemoData, password: str, seconds: float) -> int:
        runs = json.loads(self._biomeroworker(worker, "runs", "--json", "--limit", "1"))
        run = json.loads(self._biomeroworker(worker, "show", runs[0]["id"], "--json"))
        console.print()
        console.print(self._biomeroworker(worker, "runs"), markup=False, end="")
        console.print()
        console.print(self._biomeroworker(worker, "show", runs[0]["id"]), markup=False, end="")
        if run["state"] != "done":
            return 1
        console.print()
        table = Table("stage", "seconds", "bytes", title=f"run {run['run']}", title_justify="left", box=None)
        for stage, spent in run["seconds"].items():
            table.add_row(stage, f"{spent:.2f}", f"{run['outcomes'].get(stage, {}).get('bytes', '')}")
        console.print(table)
        console.print(f"from the launch of the script to visible results: {seconds:.1f} s")
        found = Table("image", "objects", "ground truth", "F1 at IoU 0.5", box=None)
        scores = demo_data.scores(self._address(), data, password, run["run"], self.output)
        for name, score in scores.items():
            found.add_row(name, str(score.found), str(score.truth), f"{score.f1:.3f}")
        console.print(found)
        console.print(f"overlay: {self.output / 'overlay.png'}")
        return 0


def without_objects(output: str) -> str:
    """The output of ``omero script launch`` without the long lists of members of returned objects."""
    return re.sub(r"^\{\n(?:(?: .*)?\n)*\}\n", "", output, flags=re.MULTILINE)


def _script_id(output: str) -> int:
    """The ID in the output of ``omero script upload``."""
    number = re.search(r"OriginalFile:(\d+)", output)
    if not number:
        raise SandboxError(f"omero script upload printed no ID:\n{output}")
    return int(number[1])


def _indented(text: Any) -> None:
    console.print(f"         {text}", markup=False)


@contextmanager
def _running(env: dict[str, str], log: Path, *arguments: str) -> Iterator[None]:
    """A ``biomeroworker`` process for the duration of the block."""
    command = [str(Path(sys.executable).parent / "biomeroworker"), *arguments]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        time.sleep(0.5)
        if process.poll() is not None:
            raise SandboxError(f"biomeroworker {arguments[0]} ended immediately; see {log}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _existing() -> dict[str, str]:
    """The address of the server in the environment; empty if there is none."""
    names = ("OMERO_HOST", "OMERO_PORT", "OMERO_ROOT_PASSWORD")
    given = {name: os.environ.get(name, "") for name in names}
    if not given["OMERO_HOST"]:
        return {}
    given["OMERO_PORT"] = given["OMERO_PORT"] or "4064"
    if not given["OMERO_ROOT_PASSWORD"]:
        raise SandboxError("OMERO_HOST is set: set OMERO_ROOT_PASSWORD as well")
    return given


def main() -> int:
    """Run the demo; returns exit code 0 if results were imported and scored."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=None, help="folder of the sandbox; default: $SANDBOX_ROOT")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "demo", help="folder for overlay.png")
    parser.add_argument("--keep", action="store_true", help="do not stop the sandbox at the end")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM cleans up like Ctrl-C
    root = Root(options.root or default_root())
    try:
        require_root()
        options.output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(_take_down(root, options.keep))
            return Demo(root, options.output, _existing()).run(stack)
    except (SandboxError, subprocess.TimeoutExpired) as problem:
        console.print("[bold red]demo:[/] ", end="")
        console.print(str(problem), markup=False)
        return 1
    except KeyboardInterrupt:
        return 130


def _take_down(root: Root, keep: bool) -> Callable[[], None]:
    def act() -> None:
        if keep:
            console.print("the sandbox is left running: make sandbox-status, make sandbox-down")
            return
        with root.locked():
            Sandbox(root).down(lambda line: None)

    return act


if __name__ == "__main__":
    sys.exit(main())
