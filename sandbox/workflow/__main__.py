"""``python -m sandbox.workflow --registry HOST:PORT``: build and push missing images."""

from __future__ import annotations

import argparse
import sys
import time

from sandbox.errors import SandboxError
from sandbox.workflow.build import build_and_push


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.workflow", description=__doc__)
    parser.add_argument("--registry", required=True, metavar="HOST:PORT", help="an OCI registry with plain HTTP")
    given = parser.parse_args()
    started = time.monotonic()

    def report(message: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {message}", flush=True)

    try:
        for name, digest in build_and_push(given.registry, report).items():
            print(f"{given.registry}/{name} {digest}")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
