"""Transfer data for `run_workflow` to the cluster and back, as folders or as zip files.

A run that `SlurmClient.submit` accepts needs none of this: the engine transfers its data, without zip files.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import shutil
import tempfile
from pathlib import Path

import fabric.transfer
from invoke import Result

from biomero.compat.remote_data import copy_here, data_folder, run_checked, transferred
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.errors import RequestRejected

_ZIP_TIMEOUT_SECONDS = 3600.0


class DataTransfer:
    """Transfers between this machine and a deployment's data folder."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def transfer_data(self, local_path: str | Path) -> fabric.transfer.Result:
        """Bring a file or a folder into the data folder, under its own name."""
        local = Path(local_path)
        if not local.exists():
            raise RequestRejected(f"{local} does not exist")
        name = local.resolve().name
        target = data_folder(self._deployment.cluster, name)
        if local.is_dir():
            self._deployment.cluster.transport.send_tree(local, target)
        else:
            with tempfile.TemporaryDirectory(prefix="biomeroworker-") as folder:
                alone = Path(folder) / name
                try:
                    os.link(local.resolve(), alone)
                except OSError:
                    shutil.copyfile(local, alone)
                self._deployment.cluster.transport.send_tree(Path(folder), posixpath.dirname(target))
        return transferred(str(local), target)

    def get_unzip_command(self, zipfile: str, filter_filetypes: str | None = "*.zarr *.ome.zarr *.tiff *.tif") -> str:
        """The shell's line that unpacks ``<zipfile>.zip`` into ``<zipfile>/data/in``; no filter takes all files."""
        data = self._deployment.cluster.remote_paths.data
        folder = data_folder(self._deployment.cluster, zipfile.removesuffix(".zip"))
        inside = [f"{folder}/data/{name}" for name in ("in", "out", "gt")]
        words = ["x", "-y", f"-o{inside[0]}", f"{data}/{posixpath.relpath(folder, data)}.zip"]
        patterns = (filter_filetypes or "").split()
        unpack = f"{self._deployment.settings.default_cluster.slurm.slurm_zip_cmd} {shlex.join([*words, *patterns])}"
        return f"{shlex.join(['mkdir', '-p', *inside])} && {unpack}"

    def unpack_data(self, zipfile: str, env: dict[str, str] | None = None) -> Result:
        """Unpack ``<zipfile>.zip`` on the cluster."""
        return run_checked(
            self._deployment.cluster,
            ["sh", "-c", self.get_unzip_command(zipfile)],
            f"unpacking {zipfile}",
            timeout=_ZIP_TIMEOUT_SECONDS,
        )

    def get_zip_command(self, data_location: str, filename: str) -> str:
        """The shell's line that packs ``<data_location>/data/out`` into ``<data_location>/<filename>.zip``."""
        folder = data_folder(self._deployment.cluster, data_location)
        target = data_folder(self._deployment.cluster, f"{folder}/{filename}.zip")
        words = shlex.join(["a", "-y", target, "-tzip", "."])
        program = self._deployment.settings.default_cluster.slurm.slurm_zip_cmd
        return f"{shlex.join(['cd', f'{folder}/data/out'])} && {program} {words}"

    def zip_data_on_slurm_server(self, data_location: str, filename: str, env: dict[str, str] | None = None) -> Result:
        """Pack the results of ``data_location`` on the cluster."""
        command = self.get_zip_command(data_location, filename)
        return run_checked(
            self._deployment.cluster, ["sh", "-c", command], f"packing {data_location}", timeout=_ZIP_TIMEOUT_SECONDS
        )

    def copy_zip_locally(self, local_tmp_storage: str, filename: str) -> fabric.transfer.Result:
        """Fetch ``<filename>.zip`` from the data folder (``<folder>/<name>``, or a path below it)."""
        remote = data_folder(self._deployment.cluster, f"{filename}.zip")
        local = Path(local_tmp_storage) / posixpath.basename(remote)
        copy_here(self._deployment.cluster, remote, local)
        return transferred(str(local), remote)
