"""A fake container runtime that can be made to fail, for tests of code that runs or pulls images.

An image is a shell script that runs directly on this machine. The registry is a folder: ``<path>/<tag>`` is
the script. It passes the contract of runtimes (``tests/contract/test_runtime.py``), except isolation::

    fake.fail_pull("manifest unknown")     # every pull from now on, until fail_pull("")
    fake.outdate("made for other folders") # every image that was pulled before
    fake.missing = True                    # the program is not there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biomeroworker.cluster.containers import pull_script
from biomeroworker.cluster.containers.apptainer import FOREIGN
from biomeroworker.cluster.containers.runtime import Reference, plain

#: $1 the error message of the registry (empty: none), $2 the registry.
_FETCH = r"""
fetch() {
  [ -z "$1" ] || { printf '%s\n' "$1"; exit 1; }
  cp -- "$2/${reference##*/}" "$folder/image" 2>/dev/null || { echo "manifest unknown: $reference"; exit 1; }
}
"""
_RUN = r"""
[ -r "$1" ] || { printf 'FATAL: could not open image %s\n' "$1" >&2; exit 255; }
exec sh -- "$@"
"""
_MISSING = "no-such-container-program"


class FakeRuntime:
    """A runtime whose images are scripts from a folder."""

    suffix = ".sif"

    def __init__(self, registry: Path, *, binds: Sequence[str] = ()) -> None:
        self._registry = registry
        self._binds = tuple(map(plain, binds))
        self._refusal = ""
        self._reason = ""
        self.missing = False

    @property
    def program(self) -> str:
        """The programs that are searched on the cluster."""
        return _MISSING if self.missing else "sh"

    def put(self, path: str, tag: str, script: str) -> None:
        """Add an image to the registry; only the last part of its path is used."""
        self._registry.mkdir(parents=True, exist_ok=True)
        (self._registry / f"{path.rpartition('/')[2]}:{tag}").write_text(script)

    def fail_pull(self, words: str) -> None:
        """Let the registry answer with this error; empty: let it work again."""
        self._refusal = words

    def outdate(self, reason: str) -> None:
        """Make every existing image unusable until it is pulled again."""
        self._reason = reason

    def run_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs the script."""
        return [*self.exec_prefix(image, binds=binds, gpu=gpu), "sh", "-c", _RUN, "run", image]

    def exec_prefix(self, image: str, *, binds: Sequence[str], gpu: bool = False) -> list[str]:
        """The argv that runs a program of this machine."""
        if self.missing:
            return ["sh", "-c", 'echo "FATAL: no container program is to be found" >&2; exit 255', "missing"]
        home = [f"HOME={plain(binds[0])}"] if binds else []
        return ["env", *(word for name in FOREIGN for word in ("-u", name)), *home]

    def pull_command(self, reference: Reference, target: str, *, replace: bool = False) -> list[str]:
        """Put an image at ``target`` atomically."""
        words = [self._refusal, str(self._registry)]
        return pull_script.pull_command(_FETCH, reference, target, program=self.program, words=words, replace=replace)

    def outdated(self, record: Mapping[str, Any]) -> str:
        """The reason that was given to `outdate`."""
        return self._reason
