"""``make demo``: real images go from OMERO to a SLURM cluster, through a container, and back.

With ``OMERO_HOST``, ``OMERO_PORT`` and ``OMERO_ROOT_PASSWORD`` set, everything but OMERO is started here and that
server is used; our Processor attaches to it in user mode. Without, the sandbox's own OMERO is used, where IceGrid
starts our Processor. From there the way is the same.
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
from sandbox.orchestrator import Sandbox, insist_on_root
from sandbox.root import Root, default_root
from sandbox.workflow.build import build_and_push

CHECKOUT = Path(__file__).resolve().parents[1]
SCRIPT = CHECKOUT / "scripts" / "SLURM_Run_Workflow.py"
OFFICIAL_PATH = "biomeroworker/SLURM_Run_Workflow.py"
#: Seconds that any one command may take before the demo gives up: the script with its run, or pulling the images.
PATIENCE = 900
#: omero-py's command refuses to run as root, which a container often is; this enters it one step later.
OMERO_COMMAND = [
    sys.executable,
    "-W",
    "ignore",
    "-c",
    "import sys, omero.cli; sys.argv[0] = 'omero'; sys.exit(omero.cli.argv())",
]

console = Console(highlight=False, soft_wrap=True)


class Demo:
    """One walk through the whole way."""

    def __init__(self, root: Root, output: Path, existing: dict[str, str]) -> None:
        self.root, self.output, self.existing = root, output, existing
        self.env: dict[str, str] = {}
        self._begun = time.monotonic()

    def step(self, text: str) -> None:
        """Say what comes next, and when."""
        console.print(f"[bold cyan]{time.monotonic() - self._begun:6.1f} s[/]  {text}")

    def walk(self, stack: ExitStack) -> int:
        """All of it; returns the exit code."""
        self._bring_up()
        self.step("building the workflow's container and pushing it to the local registry")
        build_and_push(self.env["REGISTRY"], _indented)
        deployment.write(self.root.path, self.env)
        worker = {**os.environ, **self.env}
        self.step("biomeroworker init: the cluster pulls the images")
        self._biomeroworker(worker, "init")

        self.step("putting the images into OMERO")
        password = secrets.token_urlsafe(12)
        data = demo_data.put(self._address(), self.env["OMERO_ROOT_PASSWORD"], password)
        console.print(f"         project {data.project}, dataset {data.dataset}, images {data.images}")

        self.step("starting the supervisor" + (" and attaching the Processor in user mode" if self.existing else ""))
        as_root = {**worker, "OMERO_USER": "root", "OMERO_PASSWORD": self.env["OMERO_ROOT_PASSWORD"]}
        stack.enter_context(_running(as_root, self.root.path / "log/supervise.log", "supervise"))
        if self.existing:
            # its own Processor knows nothing of ours, so the script is the demo user's own, which only ours serves
            as_user = {**worker, "OMERO_USER": data.user, "OMERO_PASSWORD": password}
            stack.enter_context(_running(as_user, self.root.path / "log/attach.log", "attach"))

        self.step("omero script upload" + ("" if self.existing else " --official"))
        script = self._upload_own(data, password) if self.existing else self._upload_official()
        self.step(f"omero script launch {script} on dataset {data.dataset}")
        begun = time.monotonic()
        self._launch(script, data, password)
        took = time.monotonic() - begun
        return self._summary(worker, data, password, took)

    def _bring_up(self) -> None:
        sandbox = Sandbox(self.root)
        self.step("bringing the sandbox up" + (" without OMERO" if self.existing else ""))
        with self.root.locked():
            sandbox.up(sandbox.choose([], ["omero"] if self.existing else []), _indented)
        self.env = {**variables(self.root), **self.existing}

    def _address(self) -> tuple[str, int]:
        return self.env["OMERO_HOST"], int(self.env["OMERO_PORT"])

    # -- OMERO's own command, unmodified ------------------------------------------------------------------------------

    def _omero(self, session: Path, *arguments: str, secret: str = "", cwd: Path | None = None) -> str:
        """Run ``omero``; a password goes in by its environment variable, never by the command line."""
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
            timeout=PATIENCE,
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
        # the path that the command is given is the path that the script will have on the server
        here = self.root.folder("scripts") / OFFICIAL_PATH
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_text(SCRIPT.read_text())
        return _script_id(self._omero(session, "script", "upload", OFFICIAL_PATH, "--official", cwd=here.parents[1]))

    def _upload_own(self, data: demo_data.Put, password: str) -> int:
        return _script_id(self._omero(self._session(data.user, password), "script", "upload", str(SCRIPT)))

    def _launch(self, script: int, data: demo_data.Put, password: str) -> None:
        session = self._session(data.user, password)
        name = deployment.WORKFLOW
        said = self._omero(
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
        for line in without_objects(said).splitlines():
            if line.strip():
                console.print(f"         {line}", markup=False)

    # -- what came of it ----------------------------------------------------------------------------------------------

    def _biomeroworker(self, env: dict[str, str], *arguments: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "biomeroworker"), *arguments],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise SandboxError(f"biomeroworker {arguments[0]} ended with {done.returncode}")
        return done.stdout

    def _summary(self, worker: dict[str, str], data: demo_data.Put, password: str, took: float) -> int:
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
        for stage, seconds in run["seconds"].items():
            table.add_row(stage, f"{seconds:.2f}", f"{run['outcomes'].get(stage, {}).get('bytes', '')}")
        console.print(table)
        console.print(f"from script launch to results visible: {took:.1f} s")
        found = Table("image", "objects", "ground truth", "F1 at IoU 0.5", box=None)
        scores = demo_data.scores(self._address(), data, password, run["run"], self.output)
        for name, score in scores.items():
            found.add_row(name, str(score.found), str(score.truth), f"{score.f1:.3f}")
        console.print(found)
        console.print(f"overlay: {self.output / 'overlay.png'}")
        return 0


def without_objects(said: str) -> str:
    """What ``omero script launch`` says, but not the members of the objects that a script returned: pages of them."""
    return re.sub(r"^\{\n(?:(?: .*)?\n)*\}\n", "", said, flags=re.MULTILINE)


def _script_id(said: str) -> int:
    """The id that ``omero script upload`` prints."""
    number = re.search(r"OriginalFile:(\d+)", said)
    if not number:
        raise SandboxError(f"omero script upload did not name the script:\n{said}")
    return int(number[1])


def _indented(text: Any) -> None:
    console.print(f"         {text}", markup=False)


@contextmanager
def _running(env: dict[str, str], log: Path, *arguments: str) -> Iterator[None]:
    """A ``biomeroworker`` process for as long as the block runs."""
    command = [str(Path(sys.executable).parent / "biomeroworker"), *arguments]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        time.sleep(0.5)
        if process.poll() is not None:
            raise SandboxError(f"biomeroworker {arguments[0]} ended at once; see {log}")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _existing() -> dict[str, str]:
    """The server to use, when the environment names one."""
    names = ("OMERO_HOST", "OMERO_PORT", "OMERO_ROOT_PASSWORD")
    given = {name: os.environ.get(name, "") for name in names}
    if not given["OMERO_HOST"]:
        return {}
    given["OMERO_PORT"] = given["OMERO_PORT"] or "4064"
    if not given["OMERO_ROOT_PASSWORD"]:
        raise SandboxError("OMERO_HOST is given, so OMERO_ROOT_PASSWORD must be too")
    return given


def main() -> int:
    """The exit code: 0 when results are in OMERO and scored."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=None, help="where the sandbox's state lives (or $SANDBOX_ROOT)")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "demo", help="where overlay.png goes")
    parser.add_argument("--keep", action="store_true", help="leave the sandbox running")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that Ctrl-C and SIGTERM both clean up
    root = Root(options.root or default_root())
    try:
        insist_on_root()
        options.output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.callback(_take_down(root, options.keep))
            return Demo(root, options.output, _existing()).walk(stack)
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
