"""Finish the files of a layer, so that the same input makes the same layer.

``python finish.py LAYER [--environment PATH]``: give everything in the folder LAYER, which the Dockerfile copies to
``/``, one time: ``SOURCE_DATE_EPOCH``. With ``--environment`` leave out the test suites of the libraries in the Python
environment that the layer has at PATH, and compile it. Standard library only: it runs in the build of an image.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import shutil
from pathlib import Path


def remove_tests(folder: Path) -> None:
    """Remove the folders named ``tests`` inside of packages: a hundred megabytes that no program reads."""
    for path in sorted(folder.glob("lib/python*/site-packages/*/**/tests")):
        if path.is_dir():
            shutil.rmtree(path)


def stamp(folder: Path, epoch: int) -> None:
    """Set the time of everything in a folder, links included."""
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def compile_modules(folder: Path, environment: str) -> None:
    """Compile all modules. They are compared by time, not by hash: one that an administrator edits is compiled again.

    Files that cannot be compiled (templates, code of other Pythons) are left unchanged, as with pip.
    """
    compileall.compile_dir(
        folder,
        maxlevels=50,
        quiet=2,
        stripdir=str(folder),
        prependdir=environment,
        invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP,
        workers=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("layer", type=Path)
    parser.add_argument("--environment", metavar="PATH", help="where the layer has a Python environment")
    arguments = parser.parse_args()
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    if arguments.environment:
        folder = arguments.layer / arguments.environment.lstrip("/")
        remove_tests(folder)
        stamp(folder, epoch)
        compile_modules(folder, arguments.environment)
    stamp(arguments.layer, epoch)


if __name__ == "__main__":
    main()
