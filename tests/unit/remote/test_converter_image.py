"""The converter's image is described twice, for sites and for the sandbox: it is one image."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path

from biomeroworker.remote import convert
from sandbox.workflow import build, rootfs

PROGRAM = Path(convert.__file__)
DEFINITION = PROGRAM.with_name("convert_zarr_to_tiff.def").read_text()
#: What is imported, by what brings it.
BRINGS = {"numpy": {"numpy"}, "numcodecs": {"numcodecs"}, "google-crc32c": set(), "tifffile": {"tifffile"}}


def _pins() -> list[str]:
    (line,) = (line for line in DEFINITION.splitlines() if "pip install" in line)
    return [word for word in shlex.split(line)[2:] if not word.startswith("-")]


def test_both_have_the_same_pins() -> None:
    assert tuple(_pins()) == rootfs.WHEELS


def test_the_program_needs_nothing_that_the_pins_do_not_bring() -> None:
    imported = set()
    for node in ast.walk(ast.parse(PROGRAM.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    pins = {re.split("[<>=]", pin)[0] for pin in _pins()}
    assert imported - set(sys.stdlib_module_names) == set().union(*(BRINGS[pin] for pin in pins))


def test_both_have_the_program_at_the_same_place_and_start_it() -> None:
    assert "convert.py /app/convert.py" in DEFINITION
    assert 'exec python3 /app/convert.py "$@"' in DEFINITION
    assert build.CONVERT.files == {"convert.py": PROGRAM}
    assert build.CONVERT.entrypoint == ("python3", "/app/convert.py")
    assert not build.CONVERT.science
