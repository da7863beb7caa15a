"""``python -m sandbox.workflow --registry HOST:PORT``: build what is missing, push what the registry lacks."""

from __future__ import annotations

import argparse
import sys
import time

from sandbox.errors import SandboxError
from sandbox.workflow.build import build_and_push


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.workflow", description=__doc__)
    parser.add_argument("--registry", required=True, metavar="HOST:PORT", help="an OCI registry that speaks plain HTTP")
    given = parser.parse_args()
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {what}", flush=True)

    try:
        for name, digest in build_and_push(given.registry, say).items():
            print(f"{given.registry}/{name} {digest}")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
