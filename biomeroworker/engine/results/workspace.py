"""A run's folder on this machine: it mirrors the run's folder on the cluster, below the worker's work folder.

``<work>/<run>/`` holds ``inputs.json``, ``in/`` and ``attempt-<n>/``, so that one tree is sent and one is fetched. The
chunks of a run that is split are in ``in/<number>/``. Complete chunks are moved to ``going/``, are sent from there, and
are deleted when the cluster has them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from biomeroworker.domain.input_files import FILES_FOLDER
from biomeroworker.domain.manifest import INPUTS_FILE, InputManifest, folder_name


class Workspace:
    """Paths and small files of one run on this machine."""

    def __init__(self, work_folder: Path, run: UUID) -> None:
        self.folder = work_folder / str(run)
        self.inputs = self.folder / "in"
        #: The files of file parameters, in a folder for each parameter
        self.files = self.folder / FILES_FOLDER
        self.outgoing = self.folder / "going"
        #: The results of all tasks, as links to the fetched files.
        self.results = self.folder / "results"
        #: Small pictures of inputs that are deleted before the end of the run.
        self.thumbnails = self.folder / "thumbnails"

    def attempt(self, number: int) -> Path:
        """The files of an attempt that are sent to the cluster."""
        return self.folder / f"attempt-{number}"

    def fetched(self, number: int) -> Path:
        """What was fetched of an attempt; separate from what was sent, so that no local file is taken for a result."""
        return self.folder / f"fetched-{number}"

    def open(self) -> None:
        """Create the folders. Only the worker's user can read them: pixels may be confidential."""
        self.inputs.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    def write_manifest(self, manifest: InputManifest) -> None:
        """Publish the manifest atomically."""
        partial = self.folder / f".{INPUTS_FILE}.part"
        partial.write_text(manifest.model_dump_json(indent=1))
        partial.replace(self.folder / INPUTS_FILE)

    def read_manifest(self) -> InputManifest | None:
        """The manifest, if it is on this machine."""
        try:
            return InputManifest.model_validate_json((self.folder / INPUTS_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def has_inputs(self, manifest: InputManifest, chunk: int | None = None) -> bool:
        """Whether all inputs are exported here; an input gets its final name when it is complete.

        With a chunk only its images, without one all images and the files of file parameters.
        """
        if chunk is not None and (self.outgoing / folder_name(chunk)).is_dir():
            return True
        if chunk is None and not all((self.folder / file.path).exists() for file in manifest.files):
            return False
        return all((self.chunk(chunk) / portion.image.path).exists() for portion in manifest.portions(chunk))

    def chunk(self, chunk: int | None) -> Path:
        """The folder for the exported inputs of a chunk; None: of a run that is not split."""
        return self.inputs if chunk is None else self.inputs / folder_name(chunk)

    def stage_outgoing(self, chunks: Iterable[int]) -> int:
        """Make ``going/`` contain exactly these complete chunks; return its size in bytes."""
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
        """Delete ``going/``: the cluster has its chunks. A chunk that is lost there is exported again."""
        shutil.rmtree(self.outgoing, ignore_errors=True)

    def size(self) -> int:
        """Size of all files below the folder, in bytes."""
        return _size(self.folder)

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
