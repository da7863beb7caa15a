"""Build the images and push them, doing nothing that was done before."""

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
    """One image: its name in the registry, the files under ``/app``, and what its entry point runs."""

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
    """Write an image's OCI layout into ``folder`` (which must be empty) and return its manifest's digest."""
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


def build_and_push(registry: str, say: Callable[[str], None]) -> dict[str, str]:
    """Bring every image into the registry at ``HOST:PORT`` (plain HTTP); returns digests by ``name:tag``."""
    base, science = layers(say)
    digests = {}
    for image in IMAGES:
        with tempfile.TemporaryDirectory() as scratch:
            digest = layout(image, Path(scratch), [base, science] if image.science else [base])
            if held(registry, image) == digest:
                say(f"{image.reference} is in the registry already")
            else:
                say(f"pushing {image.reference}")
                _push(Path(scratch), registry, image)
            digests[image.reference] = digest
    return digests


def held(registry: str, image: Image) -> str | None:
    """The digest of the image that the registry holds under this name and tag."""
    connection = http.client.HTTPConnection(registry, timeout=10)
    try:
        connection.request("HEAD", f"/v2/{image.name}/manifests/{image.tag}", headers={"Accept": MANIFEST})
        answer = connection.getresponse()
        return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None
    except OSError as error:
        raise SandboxError(f"no registry answers at {registry}: {error}") from error
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
        raise SandboxError("skopeo is not installed (tools/install-packages installs what is needed)") from missing
    if done.returncode:
        raise SandboxError(f"{image.reference} could not be pushed: {done.stderr.strip()}")
