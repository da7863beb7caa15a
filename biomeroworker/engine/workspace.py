"""The local side of a run: a mirror image of its folder on the cluster, below the worker's own work folder.

``<work>/<run>/`` holds ``inputs.json``, ``in/`` and ``attempt-<n>/``, so that one tree goes out and one comes back.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

from biomeroworker.manifest import INPUTS_FILE, InputManifest


class Workspace:
    """Paths and small files of one run on this machine."""

    def __init__(self, work_folder: Path, run: UUID) -> None:
        self.folder = work_folder / str(run)
        self.inputs = self.folder / "in"

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
        """Publish the manifest atomically: that it is there means that the export is complete."""
        partial = self.folder / f".{INPUTS_FILE}.part"
        partial.write_text(manifest.model_dump_json(indent=1))
        partial.replace(self.folder / INPUTS_FILE)

    def read_manifest(self) -> InputManifest | None:
        """The manifest, if the export is complete here."""
        try:
            return InputManifest.model_validate_json((self.folder / INPUTS_FILE).read_bytes())
        except FileNotFoundError:
            return None

    def size(self) -> int:
        """Bytes of all files below the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def drop(self) -> None:
        """Remove everything of the run on this machine."""
        shutil.rmtree(self.folder, ignore_errors=True)
