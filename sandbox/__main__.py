"""``python -m sandbox up|status|down|env``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sandbox import deployment
from sandbox.env import as_shell, variables
from sandbox.errors import SandboxError
from sandbox.orchestrator import Sandbox, require_root
from sandbox.root import Root, default_root


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: write PART=NUMBER")
    return name, int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start all parts that do not run")
    up.add_argument("--only", type=_names, default=[], metavar="PART,…", help="only these parts and their requirements")
    up.add_argument("--without", type=_names, default=[], metavar="PART,…", help="all parts except these")
    up.add_argument("--with", type=_names, default=[], dest="optional", metavar="PART,…", help="also optional parts")
    up.add_argument("--port", type=_port, action="append", default=[], metavar="PART=NUMBER", help="port of a part")
    down = commands.add_parser("down", help="stop all parts; the data is not removed")
    down.add_argument("--purge", action="store_true", help="also remove all data and the account of the cluster")
    commands.add_parser("status", help="check all parts; exit code 1 if one is down")
    commands.add_parser("env", help="print the addresses as shell assignments")
    for command in commands.choices.values():
        command.add_argument("--root", type=Path, default=None, help="folder of the sandbox; default: $SANDBOX_ROOT")
    return parser


def _show(sandbox: Sandbox, console: Console) -> int:
    answers = sandbox.status()
    if not answers:
        console.print(f"there is no sandbox in {sandbox.root.path}")
        return 1
    table = Table("part", "port", "pid", "health", "", title=str(sandbox.root.path), title_justify="left")
    for answer in answers:
        words = "[green]healthy" if answer.healthy else "[red]down"
        table.add_row(answer.part, str(answer.port or ""), str(answer.pid or ""), words, escape(answer.detail))
    console.print(table)
    return 0 if all(answer.healthy for answer in answers) else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        root = Root(options.root or default_root())
        sandbox = Sandbox(root)
        if options.command == "env":
            if not root.exists:
                raise SandboxError(f"there is no sandbox in {root.path}")
            print(as_shell(root), end="")
            return 0
        if options.command == "status":
            return _show(sandbox, console)
        require_root()
        if options.command == "down" and not root.exists:
            console.print(f"there is no sandbox in {root.path}")
            return 0
        started = time.monotonic()
        with root.locked():
            if options.command == "down":
                sandbox.down(lambda line: console.print(f"  {line}"), purge=options.purge)
            else:
                sandbox.use_ports(dict(options.port))
                parts = sandbox.choose(options.only, options.without, options.optional)
                sandbox.up(parts, lambda line: console.print(f"  {line}"))
                deployment.write(root.path, variables(root))
        console.print(f"{options.command}: {root.path} ({time.monotonic() - started:.1f} s)")
    except SandboxError as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; started parts continue to run: see status, or use down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
