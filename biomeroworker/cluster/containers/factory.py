"""The container runtime that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biomeroworker.cluster import paths
from biomeroworker.cluster.containers.apptainer import Apptainer
from biomeroworker.cluster.containers.charliecloud import Charliecloud
from biomeroworker.cluster.containers.runtime import Runtime

if TYPE_CHECKING:
    from biomeroworker.config.cluster_settings import SlurmSettings


def runtime_of(settings: SlurmSettings) -> Runtime:
    """The runtime of one cluster's ``[SLURM]`` section; raises `ConfigError` for what it cannot do."""
    binds = _binds(settings)
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
        binds=[text for text in binds if text not in binds_below_home(settings)],
        insecure_registries=settings.insecure_registries,
        tmpdir=tmpdir,
        cachedir=_below_home(settings.apptainer_cachedir),
    )


def binds_below_home(settings: SlurmSettings) -> list[str]:
    """The folders of ``slurm_data_bind_path`` that are relative, as old files have them: to the home folder, then.

    Not Charliecloud's, whose images need a mount point for each when they are made.
    """
    if settings.container_runtime == "charliecloud":
        return []
    return [text for text in _binds(settings) if not text.startswith("/") and ":" not in text]


def _binds(settings: SlurmSettings) -> list[str]:
    return [text.strip() for text in (settings.slurm_data_bind_path or "").split(",") if text.strip()]


def _below_home(path: str | None) -> str:
    """A folder as the remote programs take it, which start at the home folder; empty if it is not set."""
    return paths.expand_home(path, "") if path else ""
