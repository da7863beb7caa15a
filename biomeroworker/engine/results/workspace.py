"""The local side of a run: a mirror image of its folder on the cluster, below the worker's own work folder.

``<work>/<run>/`` holds ``inputs.json``, ``in/`` and ``attempt-<n>/``, so that one tree goes out and one comes back. Of
a run that is split the chunks lie in ``in/<number>/``; they are moved to ``going/`` when they are whole, are sent from
there, and are gone once the cluster has them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from biomeroworker.domain.manifest import INPUTS_FILE, InputManifest, folder_name


class Workspace:
    """Paths and small files of one run on this machine."""

    def __init__(self, work_folder: Path, run: UUID) -> None:
        self.folder = work_folder / str(run)
        self.inputs = self.folder / "in"
        self.outgoing = self.folder / "going"
        #: The results of all tasks together, as links to what was fetched.
        self.results = self.folder / "results"

    def attempt(self, number: int) -> Path:
        """What goes to the cluster for an attempt."""
        return self.folder / f"attempt-{number}"

    def fetched(self, number: int) -> Path:
        """What came back of an attempt; apart from what was sent, so that nothing local can pass for a result."""
        return self.folder / f"fetched-{number}"

    def open(self) -> None:
        """Make the folders; private to the worker's user, for pixels may be confidential."""
        self.inputs.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def write_manifest(self, manifest: InputManifest) -> None:
        """Publish the manifest atomically."""
        partial = self.folder / f".{INPUTS_FILE}.part"
        partial.write_text(manifest.model_dump_json(indent=1))
        partial.replace(self.folder / INPUTS_FILE)

    def read_manifest(self) -> InputManifest | None:
        """The manifest, if it is here."""
        try:
            return InputManifest.model_validate_json((self.folder / INPUTS_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def has_inputs(self, manifest: InputManifest, chunk: int | None = None) -> bool:
        """Whether the inputs (of a chunk) are all exported here: each appears at its place when it is whole."""
        if chunk is not None and (self.outgoing / folder_name(chunk)).is_dir():
            return True
        return all((self.chunk(chunk) / portion.image.path).exists() for portion in manifest.portions(chunk))

    def chunk(self, chunk: int | None) -> Path:
        """Where a chunk's inputs are exported to; those of a run that is not split, if none is named."""
        return self.inputs if chunk is None else self.inputs / folder_name(chunk)

    def stage_outgoing(self, chunks: Iterable[int]) -> int:
        """Let ``going/`` hold these chunks, which are whole, and nothing else; returns its size in bytes."""
        names = {folder_name(chunk) for chunk in chunks}
        self.outgoing.mkdir(exist_ok=True)
        for other in self.outgoing.iterdir():
            if other.name not in names:
                shutil.rmtree(other)
        for name in names:
            if not (self.outgoing / name).is_dir():
                (self.inputs / name).rename(self.outgoing / name)
        return _size(self.outgoing)

    def clear_outgoing(self) -> None:
        """The cluster has what was in ``going/``: should it lose it, it is exported again."""
        shutil.rmtree(self.outgoing, ignore_errors=True)

    def size(self) -> int:
        """Bytes of all files below the folder."""
        return _size(self.folder)

    def delete(self) -> None:
        """Remove everything of the run on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
