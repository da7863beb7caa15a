"""Make the container runtime of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biomeroworker.cluster import paths
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.containers.charliecloud import Charliecloud
from biomeroworker.cluster.containers.runtime import Runtime
from biomeroworker.domain.cluster_paths import is_below_home, split_binds

if TYPE_CHECKING:
    from biomeroworker.config.cluster_settings import SlurmSettings


def runtime_of(settings: SlurmSettings) -> Runtime:
    """The runtime of one cluster's ``[SLURM]`` section; raises `ConfigError` for settings that it does not support."""
    binds = split_binds(settings.slurm_data_bind_path or "")
    tmpdir = _below_home(settings.apptainer_tmpdir)
    if settings.container_runtime == "charliecloud":
        return Charliecloud(
            data=paths.expand_home(settings.slurm_data_path, ""),
            binds=binds,
            insecure_registries=settings.insecure_registries,
            tmpdir=tmpdir,
        )
    return Apptainer(
        settings.container_runtime,
        binds=[bind for bind in binds if not is_below_home(bind)],
        insecure_registries=settings.insecure_registries,
        tmpdir=tmpdir,
        cachedir=_below_home(settings.apptainer_cachedir),
    )


def binds_below_home(settings: SlurmSettings) -> list[str]:
    """The folders of ``slurm_data_bind_path`` below the account's home folder, as ini files of biomero name them.

    None for Charliecloud, whose images need a mount point for each bind when they are pulled.
    """
    if settings.container_runtime == "charliecloud":
        return []
    return [bind for bind in split_binds(settings.slurm_data_bind_path or "") if is_below_home(bind)]


def _below_home(path: str | None) -> str:
    """A folder for remote programs, which start in the home folder; empty if it is not set."""
    return paths.expand_home(path, "") if path else ""
