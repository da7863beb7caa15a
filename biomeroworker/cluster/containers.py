"""The container runtime that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from biomeroworker.cluster import layout
from biomeroworker.cluster.apptainer import Apptainer
from biomeroworker.cluster.charliecloud import Charliecloud
from biomeroworker.cluster.runtime import Runtime

if TYPE_CHECKING:
    from biomeroworker.config.schema import SlurmSettings


def runtime_of(settings: SlurmSettings) -> Runtime:
    """The runtime of one cluster's ``[SLURM]`` section; raises `ConfigError` for what it cannot do."""
    binds = [text.strip() for text in (settings.slurm_data_bind_path or "").split(",") if text.strip()]
    tmpdir = _below_home(settings.apptainer_tmpdir)
    if settings.container_runtime == "charliecloud":
        return Charliecloud(
            data=layout.resolved(settings.slurm_data_path, ""),
            binds=binds,
            insecure_registries=settings.insecure_registries,
            tmpdir=tmpdir,
        )
    return Apptainer(
        settings.container_runtime,
        binds=binds,
        insecure_registries=settings.insecure_registries,
        tmpdir=tmpdir,
        cachedir=_below_home(settings.apptainer_cachedir),
    )


def _below_home(path: str | None) -> str:
    """A folder as the remote programs take it, which start at the home folder; empty if it is not set."""
    return layout.resolved(path, "") if path else ""
