"""The client, under the module name that scripts know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from biomero.constants import slurm_env

if TYPE_CHECKING:
    from biomeroworker.client import SlurmClient
    from biomeroworker.scripting.slurmjob import SlurmJob

__all__ = ["SlurmClient", "SlurmJob", "slurm_env"]


def __getattr__(name: str) -> Any:
    """The client loads the SSH libraries: only for those who ask for it."""
    if name == "SlurmClient":
        from biomeroworker.client import SlurmClient

        return SlurmClient
    if name == "SlurmJob":
        from biomeroworker.scripting.slurmjob import SlurmJob

        return SlurmJob
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
