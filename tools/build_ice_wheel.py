#!/usr/bin/env python3
"""Build the zeroc-ice 3.6.5 wheel that omero-py needs, once, into a cache.

PyPI carries zeroc-ice 3.6.5 as source only, and that source predates Python 3.11. The handful of edits below is all
that separates it from Python 3.11 to 3.13. The result is an ordinary wheel, tagged for the interpreter that built it;
later calls print its path at once.

    python tools/build_ice_wheel.py [--cache FOLDER]

Needs g++ and the headers of Python, OpenSSL and bzip2 (Debian: g++ libbz2-dev libssl-dev python3-dev). Takes 3 to 6
minutes.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

VERSION = "3.6.5"
SDIST = f"zeroc-ice-{VERSION}.tar.gz"

#: The first Python that the wheel is made for, and the first that it is not.
PYTHONS = ((3, 11), (3, 14))

#: (file, pattern, replacement, why). A pattern that no longer matches is an error: the source is not the one we know.
EDITS = [
    ("src/Util.cpp", r"PyThreadState_GET\(\)->frame", "PyEval_GetFrame()", "the member is gone since 3.11"),
    ("src/Slice.cpp", r"#include <eval\.h>\n", "", "the header is gone since 3.11, and unused"),
    ("lib/Ice.py", r"import sys, string, imp, os,", "import sys, string, types, os,", "imp is gone since 3.12"),
    ("lib/Ice.py", r"imp\.new_module\(", "types.ModuleType(", "imp is gone since 3.12"),
    ("src/Util.cpp", r"PyEval_CallObject\(", "PyObject_CallObject(", "renamed for good in 3.13"),
    ("src/Types.cpp", r"PyEval_CallObject\(", "PyObject_CallObject(", "renamed for good in 3.13"),
    ("src/Init.cpp", r"PyEval_InitThreads\(\);", "", "a no-op since 3.9, gone in 3.13"),
    ("src/Types.cpp", r"PyObject_AsReadBuffer\(", "ice_as_read_buffer(", "gone in 3.13; see READ_BUFFER"),
]

#: What PyObject_AsReadBuffer did, in terms of the buffer protocol. The callers hold a reference to the object for as
#: long as they use the memory, as they had to with the old call.
READ_BUFFER = """
static int ice_as_read_buffer(PyObject* p, const void** buf, Py_ssize_t* sz)
{
    Py_buffer view;
    if(PyObject_GetBuffer(p, &view, PyBUF_SIMPLE) != 0)
    {
        return -1;
    }
    *buf = view.buf;
    *sz = view.len;
    PyBuffer_Release(&view);
    return 0;
}
"""

#: The whole extension is one distutils unit, which distutils compiles file by file: hand the files to all cores.
PARALLEL_SETUP = """
import os, runpy, sys
from multiprocessing.pool import ThreadPool
from setuptools import setup  # brings its own distutils
from distutils import ccompiler

def compile(self, sources, output_dir=None, macros=None, include_dirs=None, debug=0, extra_preargs=None,
            extra_postargs=None, depends=None):
    macros, objects, extra, flags, build = self._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs)
    options = self._get_cc_args(flags, debug, extra_preargs)
    done = 0
    with ThreadPool(os.cpu_count()) as pool:
        work = pool.imap_unordered(
            lambda item: self._compile(item[0], item[1][0], item[1][1], options, extra, flags), build.items())
        for _ in work:
            done += 1
            if done % 20 == 0 or done == len(build):
                print(f"zeroc-ice: compiled {done} of {len(build)} files", file=sys.stderr, flush=True)
    return objects

ccompiler.CCompiler.compile = compile
sys.argv = ["setup.py", "-q", "bdist_wheel", "--dist-dir", sys.argv[1]]
runpy.run_path("setup.py", run_name="__main__")
"""


def default_cache() -> Path:
    """``$BIOMEROWORKER_CACHE``, else ``~/.cache/biomeroworker``."""
    named = os.environ.get("BIOMEROWORKER_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "biomeroworker"


def edited(source: Path) -> None:
    """Apply `EDITS` in place; raises SystemExit naming the edit that does not fit."""
    for name, pattern, replacement, why in EDITS:
        path = source / name
        text, count = re.subn(pattern, replacement, path.read_text())
        if not count:
            raise SystemExit(f"zeroc-ice: {name} has no {pattern!r} ({why}); is this version {VERSION}?")
        path.write_text(text)
    types = source / "src/Types.cpp"
    text = types.read_text()
    at = text.index("using namespace std;")
    types.write_text(text[:at] + READ_BUFFER + text[at:])


def insist_on_python() -> None:
    """Raises SystemExit under a Python that neither the wheel nor this project is made for."""
    if not PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        raise SystemExit(
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}; needed is one of 3.11 to 3.13 "
            "(with make: PYTHON3=/the/path/of/one)"
        )


def insist_on_headers() -> None:
    """Raises SystemExit when the build would end minutes later for want of what compiles it."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    missing = [what for what, there in (("g++", shutil.which("g++")), (header, header.exists())) if not there]
    if missing:
        raise SystemExit(
            f"zeroc-ice: {' and '.join(str(one) for one in missing)} is missing; "
            "on Debian: apt-get install g++ libbz2-dev libssl-dev python3-dev"
        )


def wheel_in(folder: Path) -> Path | None:
    """The wheel for this interpreter, if the folder has one."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return next(iter(sorted(folder.glob(f"zeroc_ice-{VERSION}-{tag}-*.whl"))), None)


def build(cache: Path) -> Path:
    """Build the wheel in a scratch folder and publish it into ``cache/wheels`` with one rename."""
    wheels = cache / "wheels"
    with tempfile.TemporaryDirectory(prefix="zeroc-ice-") as scratch_name:
        scratch = Path(scratch_name)
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        # a venv of our own: the build must not depend on which setuptools the caller has
        subprocess.run([sys.executable, "-m", "venv", scratch / "venv"], check=True)
        python = scratch / "venv/bin/python"
        subprocess.run([python, *pip[1:], "install", "setuptools==75.8.0", "wheel==0.45.1"], check=True)
        download = [python, *pip[1:], "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        subprocess.run([*download, "-d", scratch, f"zeroc-ice=={VERSION}"], check=True)
        with tarfile.open(scratch / SDIST) as archive:
            # pip has checked the archive; Debian 12's Python 3.11.2 has no filters yet
            filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(scratch, **filtered)  # noqa: S202
        source = scratch / f"zeroc-ice-{VERSION}"
        edited(source)
        flags = {"CFLAGS": "-O1 -w -fPIC", "LDFLAGS": "-s"}
        setup = [python, "-W", "ignore", "-c", PARALLEL_SETUP, scratch / "dist"]
        subprocess.run(setup, cwd=source, env={**os.environ, **flags}, check=True)
        built = wheel_in(scratch / "dist")
        if built is None:
            raise SystemExit("zeroc-ice: the build left no wheel for this interpreter")
        partial = wheels / f".{built.name}.{os.getpid()}"
        shutil.copy(built, partial)
        return partial.rename(wheels / built.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="where wheels are kept (default: %(default)s)"
    )
    cache = parser.parse_args().cache
    insist_on_python()
    (cache / "wheels").mkdir(parents=True, exist_ok=True)
    with (cache / "wheels/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first installs at once build once
        wheel = wheel_in(cache / "wheels")
        if wheel is None:
            insist_on_headers()
            begun = time.monotonic()
            print(
                f"zeroc-ice: building the wheel for Python {sys.version_info.major}.{sys.version_info.minor}, "
                f"once, on {os.cpu_count()} cores; this takes 3 to 6 minutes",
                file=sys.stderr,
                flush=True,
            )
            wheel = build(cache)
            print(f"zeroc-ice: built in {time.monotonic() - begun:.0f} s", file=sys.stderr)
        print(wheel)


if __name__ == "__main__":
    main()
