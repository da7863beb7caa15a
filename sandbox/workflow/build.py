"""Build the images and push them, if they do not exist."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.workflow.oci import MANIFEST, Layer, write_layout
from sandbox.workflow.rootfs import layers

HERE = Path(__file__).parent
CONVERTER = HERE.parents[1] / "biomeroworker/remote/convert.py"


@dataclass(frozen=True)
class Image:
    """One image: its name in the registry, the files in ``/app``, and its entry point."""

    name: str
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...]
    science: bool = True  # whether it needs scipy and scikit-image
    tag: str = "v1.0.0"

    @property
    def reference(self) -> str:
        """``name:tag``."""
        return f"{self.name}:{self.tag}"


NUCLEI = Image(
    "lab/w_nucleisegmentation",
    {"nuclei.py": HERE / "nuclei.py", "descriptor.json": HERE / "descriptor.json"},
    ("python3", "/app/nuclei.py"),
)
CONVERT = Image("lab/convert_zarr_to_tiff", {"convert.py": CONVERTER}, ("python3", "/app/convert.py"), False)
IMAGES = (NUCLEI, CONVERT)


def layout(image: Image, folder: Path, below: Sequence[Layer]) -> str:
    """Write the OCI layout of an image into an empty folder and return the digest of its manifest."""
    with tempfile.TemporaryDirectory() as scratch:
        app = Path(scratch) / "root/app"
        app.mkdir(parents=True)
        app.parent.chmod(0o755)
        for name, source in image.files.items():
            shutil.copyfile(source, app / name)
            (app / name).chmod(0o755)
        top = Layer.of_folder(app.parent, folder / "app.tar.gz")
    return write_layout(
        folder, image.tag, [*below, top], image.entrypoint, {"org.opencontainers.image.title": image.name}
    )


def build_and_push(registry: str, report: Callable[[str], None]) -> dict[str, str]:
    """Build all images and push them to the registry ``HOST:PORT`` (plain HTTP); returns digests by ``name:tag``."""
    base, science = layers(report)
    digests = {}
    for image in IMAGES:
        with tempfile.TemporaryDirectory() as scratch:
            digest = layout(image, Path(scratch), [base, science] if image.science else [base])
            if digest_in_registry(registry, image) == digest:
                report(f"{image.reference} is already in the registry")
            else:
                report(f"pushing {image.reference}")
                _push(Path(scratch), registry, image)
            digests[image.reference] = digest
    return digests


def digest_in_registry(registry: str, image: Image) -> str | None:
    """The digest of the image with this name and tag in the registry; None if there is none."""
    connection = http.client.HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{image.name}/manifests/{image.tag}", headers={"Accept": MANIFEST})
        answer = connection.getresponse()
        return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None
    except OSError as error:
        raise SandboxError(f"the registry {registry} does not answer: {error}") from error
    finally:
        connection.close()


def _push(folder: Path, registry: str, image: Image) -> None:
    argv = [
        "skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests",
        f"oci:{folder}:{image.tag}", f"docker://{registry}/{image.reference}",
    ]  # fmt: skip
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    except FileNotFoundError as missing:
        raise SandboxError("skopeo is not installed: run tools/install-packages") from missing
    if done.returncode:
        raise SandboxError(f"{image.reference} could not be pushed: {done.stderr.strip()}")
