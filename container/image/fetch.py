"""Fetch a file and check it: ``python fetch.py URL SHA256 FILE``. A file with another checksum is removed.

Standard library only: it runs in the build of an image, before anything is installed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import urllib.request
from pathlib import Path

TIMEOUT_SECONDS = 60


def fetch(url: str, sha256: str, target: Path) -> None:
    """Raises SystemExit with one line when the file cannot be had or is another one."""
    if not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise SystemExit(f"fetch: {url} is given without a SHA-256 checksum (64 hexadecimal digits)")
    partial = target.with_name(target.name + ".partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, partial.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise SystemExit(f"fetch: {url} has the checksum {found}, expected is {sha256.lower()}")
        partial.replace(target)
    except (OSError, ValueError) as error:  # URLError is an OSError; ValueError: no URL at all
        raise SystemExit(f"fetch: cannot fetch {url}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
