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
        #: The results that were packed here, by the names that they were given.
        self._packed: dict[str, str] = {}

    @property
    def _zip_program(self) -> str:
        return self._deployment.settings.default_cluster.slurm.slurm_zip_cmd

    @property
    def _is_info_zip(self) -> bool:
        """Whether ``slurm_zip_cmd`` is Info-ZIP's ``zip``, which has an ``unzip`` beside it, and not 7-Zip."""
        try:
            return posixpath.basename(shlex.split(self._zip_program)[0]) == "zip"
        except (IndexError, ValueError):
            return False

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
        archive = f"{data}/{posixpath.relpath(folder, data)}.zip"
        patterns = (filter_filetypes or "").split()
        if self._is_info_zip:
            program = posixpath.join(posixpath.dirname(shlex.split(self._zip_program)[0]), "unzip")
            # a folder is matched by its files; exit code 11: no file matches one of the patterns
            matches = [f"{one}/*" if one.endswith(".zarr") else one for one in patterns]
            unpack = f"{{ {shlex.join([program, '-o', archive, *matches, '-d', inside[0]])} || [ $? -eq 11 ]; }}"
        else:
            unpack = f"{self._zip_program} {shlex.join(['x', '-y', f'-o{inside[0]}', archive, *patterns])}"
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
        words = ["-r", target, "."] if self._is_info_zip else ["a", "-y", target, "-tzip", "."]
        return f"{shlex.join(['cd', f'{folder}/data/out'])} && {self._zip_program} {shlex.join(words)}"

    def zip_data_on_slurm_server(self, data_location: str, filename: str, env: dict[str, str] | None = None) -> Result:
        """Pack the results of ``data_location`` on the cluster."""
        command = self.get_zip_command(data_location, filename)
        answer = run_checked(
            self._deployment.cluster, ["sh", "-c", command], f"packing {data_location}", timeout=_ZIP_TIMEOUT_SECONDS
        )
        self._packed[filename] = posixpath.join(data_location, filename)
        return answer

    def copy_zip_locally(self, local_tmp_storage: str, filename: str) -> fabric.transfer.Result:
        """Fetch ``<filename>.zip``: a path, or the name that `zip_data_on_slurm_server` was given."""
        remote = data_folder(self._deployment.cluster, f"{self._packed.get(filename, filename)}.zip")
        local = Path(local_tmp_storage) / posixpath.basename(remote)
        copy_here(self._deployment.cluster, remote, local)
        return transferred(str(local), remote)
