"""The images of the demo as SIF files in the cache, for clusters that have their images before ``biomeroworker init``.

To convert an OCI image, Apptainer packs some hundred megabytes: a minute or more on two cores. A copy takes a second.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.workflow.rootfs import cache_folder

PACK_TIMEOUT_SECONDS = 600


def packed(apptainer: Path, registry: str, reference: str, digest: str) -> Path:
    """The SIF file of an image in the registry ``HOST:PORT`` (plain HTTP), made once for each digest of its manifest.

    Parameters
    ----------
    apptainer
        The program.
    reference, digest
        ``name:tag`` and ``sha256:…``, as `build.build_and_push` returns them.
    """
    folder = cache_folder() / "workflow"
    folder.mkdir(parents=True, exist_ok=True)
    name = reference.partition(":")[0].rpartition("/")[2]
    file = folder / f"{name}-{digest.removeprefix('sha256:')[:16]}.sif"
    with (folder / "sif.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another sandbox may be packing it
        if not file.exists():
            for old in folder.glob(f"{name}-*.sif*"):
                old.unlink()
            partial = file.with_suffix(".sif.part")
            _pull(apptainer, f"docker://{registry}/{reference}", partial)
            partial.replace(file)
    return file


def _pull(apptainer: Path, source: str, target: Path) -> None:
    command = [str(apptainer), "pull", "--disable-cache", "--no-https", str(target), source]
    environment: Mapping[str, str] = {**os.environ, "APPTAINER_TMPDIR": str(target.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PACK_TIMEOUT_SECONDS)
    if done.returncode:
        raise SandboxError(f"{source} could not be packed: {done.stderr.strip()[-500:]}")
