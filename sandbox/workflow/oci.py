"""Write an OCI image layout (image-spec 1.1): JSON files and gzipped tar archives.

The layout is reproducible: equal files give equal digests, so the digest shows whether a registry has the image.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A gzipped tar archive; ``diff_id`` is the digest of the uncompressed archive, for the config of the image."""

    blob: Path
    digest: str
    diff_id: str
    size: int

    @classmethod
    def cached(cls, blob: Path) -> Layer | None:
        """The layer at this path; None if it does not exist or is incomplete."""
        try:
            facts = json.loads(_facts(blob).read_text())
            layer = cls(blob, facts["digest"], facts["diff_id"], facts["size"])
            return layer if blob.stat().st_size == layer.size else None
        except (OSError, ValueError, KeyError):
            return None

    @classmethod
    def of_folder(cls, folder: Path, blob: Path) -> Layer:
        """Pack a folder with sorted names, no times and numeric owners, so that equal folders give equal layers."""
        tar = subprocess.Popen(
            ["tar", "--sort=name", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0", "--format=gnu",
             "-C", str(folder), "-c", "."],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert tar.stdout is not None
        layer = cls._pack(iter(lambda: tar.stdout.read(_CHUNK_BYTES), b""), blob)  # type: ignore[union-attr]
        if tar.wait() != 0:
            _facts(blob).unlink()
            raise OSError(f"tar could not pack {folder}")
        return layer

    @classmethod
    def _pack(cls, chunks: Iterable[bytes], blob: Path) -> Layer:
        inside, outside, size = hashlib.sha256(), hashlib.sha256(), 0
        gzip = zlib.compressobj(3, wbits=31)
        partial = blob.with_suffix(".partial")
        with partial.open("wb") as out:

            def write(data: bytes) -> None:
                nonlocal size
                outside.update(data)
                size += out.write(data)

            for chunk in chunks:
                inside.update(chunk)
                write(gzip.compress(chunk))
            write(gzip.flush())
        partial.rename(blob)
        layer = cls(blob, f"sha256:{outside.hexdigest()}", f"sha256:{inside.hexdigest()}", size)
        _facts(blob).write_text(json.dumps({"digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size}))
        return layer


def write_layout(
    folder: Path,
    tag: str,
    layers: Sequence[Layer],
    entrypoint: Sequence[str],
    labels: dict[str, str],
    more: Mapping[str, Any] | None = None,
) -> str:
    """Write an OCI layout of one image into an empty folder; returns the digest of its manifest.

    ``more`` overrides the ``config`` of the image (``Env``, ``Cmd``, ``WorkingDir``, …).
    """
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    for layer in layers:
        (blobs / layer.digest.removeprefix("sha256:")).symlink_to(layer.blob.absolute())
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": list(entrypoint),
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
            "Labels": labels,
            **(more or {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "biomeroworker sandbox"} for _ in layers],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _add(blobs, config, _CONFIG),
        "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
    }
    described = _add(blobs, manifest, MANIFEST)
    index = {
        "schemaVersion": 2,
        "manifests": [{**described, "annotations": {"org.opencontainers.image.ref.name": tag}}],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(described["digest"])


def _add(blobs: Path, content: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = json.dumps(content, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _facts(blob: Path) -> Path:
    return blob.with_suffix(".json")
