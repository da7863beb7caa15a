#!/usr/bin/env python3
"""Put a real Apptainer under a prefix of its own, on a Debian that does not package it; the system stays untouched.

    python tools/get_apptainer.py --prefix FOLDER [--cache FOLDER]

Debian's unstable distribution has Apptainer, built against a newer C library than Debian 12 has. So its package is
unpacked under the prefix together with that C library, and the two programs are told (patchelf) to use it. The packages
are fetched once, through apt, which checks them against Debian's signed index, and kept in the cache with their SHA-256
checksums; from then on nothing is downloaded. For tests and demonstrations: a cluster brings its own Apptainer.

Needs patchelf and debian-archive-keyring. 22 MB of packages and 21 MB of package lists; a few seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Package, distribution it comes from. The libraries are those that Apptainer's programs are linked with.
PACKAGES = (("apptainer", "sid"), ("libc6", "trixie"), ("libseccomp2", "trixie"), ("libsqlite3-0", "trixie"))

LIBRARIES = (
    "ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libseccomp.so.2*", "libsqlite3.so.0*", "libresolv.so.2",
    "libnss_*.so.2", "libpthread.so.0", "libdl.so.2",
)  # fmt: skip

SUMS = "SHA256SUMS"


class Failed(Exception):
    """What went wrong, in words for a terminal."""


def run(*argv: object, cwd: Path | None = None) -> str:
    """Run a program that must succeed; its output."""
    try:
        done = subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=600)
    except FileNotFoundError as missing:
        raise Failed(f"{argv[0]} is not installed") from missing
    if done.returncode:
        raise Failed(f"{' '.join(str(word) for word in argv)}:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def mirror(apt: Path = Path("/etc/apt")) -> str:
    """The Debian mirror that this machine uses; on one that is no Debian, Debian's own."""
    for file in [*sorted(apt.glob("sources.list*/*.sources")), apt / "sources.list"]:
        text = file.read_text() if file.exists() else ""
        if found := re.search(
            r"^URIs:\s*(\S+/debian)/?\s*$|^deb\s+(?:\[.*?\]\s*)?(\S+/debian)/?\s", text, re.MULTILINE
        ):
            return found[1] or found[2]
    return "http://deb.debian.org/debian"


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cached(folder: Path) -> list[Path] | None:
    """The packages in the cache, checked; None when they were not fetched yet."""
    sums = folder / SUMS
    if not sums.exists():
        return None
    files = []
    for line in sums.read_text().splitlines():
        wanted, name = line.split("  ")
        file = folder / name
        if not file.exists() or checksum(file) != wanted:
            print(f"{file} is missing or damaged: fetching again")
            return None
        files.append(file)
    return files


def fetch(folder: Path) -> list[Path]:
    """Download the packages through an apt that has nothing to do with the system's."""
    print("fetching Apptainer's packages (43 MB, once)")
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        for name in ("etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "deb"):
            (scratch / name).mkdir(parents=True)
        (scratch / "status").touch()
        keyring, source = "/usr/share/keyrings/debian-archive-keyring.gpg", scratch / "etc/sources.list"
        distributions = sorted({distribution for _, distribution in PACKAGES})
        source.write_text("".join(f"deb [signed-by={keyring}] {mirror()} {name} main\n" for name in distributions))
        settings = {
            "Dir::Etc": scratch / "etc", "Dir::Etc::sourcelist": source, "Dir::Etc::sourceparts": "-",
            "Dir::State": scratch / "state", "Dir::State::status": scratch / "status", "Dir::Cache": scratch / "cache",
            "APT::Sandbox::User": "root", "APT::Architecture": "amd64", "Acquire::Retries": 3,
        }  # fmt: skip
        apt = ["apt-get", "-q", *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]
        run(*apt, "update")
        run(*apt, "download", *(f"{name}/{distribution}" for name, distribution in PACKAGES), cwd=scratch / "deb")
        fetched = sorted((scratch / "deb").glob("*.deb"))
        if len(fetched) != len(PACKAGES):
            raise Failed(f"apt-get download gave {len(fetched)} packages, not {len(PACKAGES)}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = [Path(shutil.copy(file, folder)) for file in fetched]
    # written last: a cache without it is no cache
    (folder / SUMS).write_text("".join(f"{checksum(file)}  {file.name}\n" for file in files))
    return files


def install(packages: list[Path], prefix: Path) -> None:
    """Unpack beside the prefix, patch for the prefix, and move into place."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=prefix.parent, prefix=".apptainer-"))
    try:
        new, libraries = work / "new", work / "libraries"
        for package in packages:
            run("dpkg-deb", "--extract", package, new if package.name.startswith("apptainer_") else libraries)
        (new / "glibc").mkdir()
        for pattern in LIBRARIES:
            for file in (libraries / "usr/lib/x86_64-linux-gnu").glob(pattern):
                shutil.copy2(file, new / "glibc", follow_symlinks=False)
        home = prefix / "glibc"  # where the libraries will be, not where they are now
        for program in ("usr/bin/apptainer", "usr/lib/x86_64-linux-gnu/apptainer/bin/starter"):
            interpreter = ["--set-interpreter", home / "ld-linux-x86-64.so.2"]
            run("patchelf", *interpreter, "--force-rpath", "--set-rpath", home, new / program)
        # It is relocatable and looks for <prefix>/etc and <prefix>/var; the starter takes its prefix to be .../usr/lib.
        (new / "etc").rename(new / "usr/etc")
        (new / "usr/lib/etc").symlink_to("../etc")
        (new / "usr/lib/var").symlink_to("../var")
        (new / "usr/bin/singularity").symlink_to("apptainer")
        for name in ("session", "source"):
            (new / "usr/var/lib/apptainer/mnt" / name).mkdir(parents=True)
        new.chmod(0o755)
        shutil.rmtree(prefix, ignore_errors=True)
        new.rename(prefix)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def default_cache() -> Path:
    """Where downloads of this project are kept."""
    return Path(os.environ.get("BIOMEROWORKER_CACHE") or Path.home() / ".cache/biomeroworker")


def main() -> int:
    """Fetch unless cached, install, and print the version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=Path, required=True, help="where to put it; replaced when it exists")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="keeps the packages (default: %(default)s)")
    options = parser.parse_args()
    prefix = options.prefix.absolute()
    try:
        options.cache.mkdir(parents=True, exist_ok=True)
        with (options.cache / "apptainer.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder = options.cache / "apptainer"
            install(cached(folder) or fetch(folder), prefix)
        print(run(prefix / "usr/bin/apptainer", "--version").strip())
    except Failed as problem:
        print(f"get_apptainer: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
