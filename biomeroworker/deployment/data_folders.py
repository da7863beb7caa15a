"""Folders of data on the cluster for people who do the steps of a run one by one.

``<data folder>/<name>/data/in`` has the images, ``data/out`` the results of jobs. Beside ``data/``, ``inputs.json`` is
the manifest of the images, and ``owner.json`` names the user who may use the folder: one account of the cluster serves
all users. The folder of a run that a supervisor executes is not such a folder.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from biomeroworker.cluster.transport.transport import TransferResult
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.run_actions import Requester
from biomeroworker.domain.manifest import INPUTS_FILE, InputManifest
from biomeroworker.engine.steps.input_manifest import read_manifest
from biomeroworker.errors import RequestRejected
from biomeroworker.eventlog.aggregates.run import WorkflowRun
from biomeroworker.eventlog.runlog import NoSuchRun

OWNER_FILE = "owner.json"
INPUT, OUTPUT = "data/in", "data/out"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,199}")
_RUN_PREFIX = "biomero_"
#: Seconds for reading a manifest from the cluster.
MANIFEST_SECONDS = 300.0


class DataFolders:
    """The folders of a deployment's default cluster, for one user."""

    def __init__(self, deployment: Deployment, requester: Requester) -> None:
        self._deployment, self._requester = deployment, requester
        self._cluster = deployment.cluster

    def path(self, name: str) -> str:
        """The absolute path of a folder. Raises `RequestRejected` for a name that is not one of a folder."""
        if not _NAME.fullmatch(name):
            raise RequestRejected(
                f"{name!r} is not a name of a folder: use letters, digits, '.', '_', '-' and blanks, at most 200"
            )
        run = self.run_of(name)
        if run is not None and run.request is not None:
            raise RequestRejected(f"{name} is the folder of run {run.id}, which a supervisor executes; choose another")
        return f"{self._cluster.remote_paths.data}/{name}"

    def run_of(self, name: str) -> WorkflowRun | None:
        """The run whose folder has this name; None if the log has none."""
        try:
            return self._deployment.log.run(UUID(name.removeprefix(_RUN_PREFIX))) if name[:8] == _RUN_PREFIX else None
        except (ValueError, NoSuchRun):
            return None

    def existing(self, name: str) -> str:
        """The path of a folder that exists and that the user may use; otherwise raises `RequestRejected`."""
        path = self.path(name)
        if not self._cluster.transport.exists(path):
            raise RequestRejected(f"there is no folder {name} in {self._cluster.remote_paths.data}")
        if not self._requester.may_act_on(self._owner(name, path)):
            raise RequestRejected(
                f"the folder {name} belongs to another user, or has no known owner; an administrator may use it"
            )
        return path

    def send(self, name: str, local: Path, place: str = INPUT, manifest: InputManifest | None = None) -> TransferResult:
        """Copy the files of a folder to ``<name>/<place>`` on the cluster; equal files are not sent again.

        A new folder gets the user as its owner. Raises `RequestRejected` if it belongs to another user.
        """
        path = self.path(name)
        transport = self._cluster.transport
        if transport.exists(path):
            self.existing(name)
        else:
            transport.make_dirs([f"{path}/{INPUT}", f"{path}/{OUTPUT}"])
            transport.write_file(f"{path}/{OWNER_FILE}", json.dumps({"user": self._requester.user}).encode())
        sent = transport.send_tree(local, f"{path}/{place}")
        if manifest is not None:
            transport.write_file(
                f"{path}/{INPUTS_FILE}", self._merged(path, manifest).model_dump_json(indent=1).encode()
            )
        return sent

    def send_file(self, name: str, file: Path, slot: str = "") -> str:
        """Copy one file to ``<name>/data/in`` (or a folder in it); returns its path on the cluster."""
        if slot and not _NAME.fullmatch(slot):
            raise RequestRejected(f"{slot!r} is not a name of a folder")
        place = f"{INPUT}/{slot}" if slot else INPUT
        with TemporaryDirectory(prefix="biomeroworker-", dir=file.parent) as alone:
            (Path(alone) / file.name).hardlink_to(file)
            self.send(name, Path(alone), place)
        return f"{self.path(name)}/{place}/{file.name}"

    def manifest(self, path: str) -> InputManifest | None:
        """The manifest of the images in a folder."""
        return read_manifest(self._cluster.transport, path, timeout=MANIFEST_SECONDS)

    def _merged(self, path: str, manifest: InputManifest) -> InputManifest:
        """The manifest with the images that were sent before."""
        before = self.manifest(path)
        images = {image.key: image for known in (before, manifest) if known for image in known.images}
        return manifest.model_copy(update={"images": tuple(images.values())})

    def _owner(self, name: str, path: str) -> int:
        """The user of a folder; -1 if it is not known."""
        try:
            return int(json.loads(self._cluster.transport.read_from(f"{path}/{OWNER_FILE}"))["user"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            run = self.run_of(name)
            return -1 if run is None else run.user
