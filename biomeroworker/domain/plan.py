"""The plan of a run: what is run, settled when the run is admitted and recorded in its log."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class RunPlan(BaseModel):
    """The recorded plan, as every reader of the log can use it.

    The engine's `ExecutionPlan` adds the workflow's description. A log of an earlier version may lack a field.
    """

    model_config = ConfigDict(frozen=True)

    image: str = ""  #: path of the container image on the cluster
    version: str = ""  #: of the image
    digest: str = ""  #: of the image
    converter: str = ""  #: path of the converter's image on the cluster; empty when the workflow reads OME-Zarr
    gpu: bool = False
    options: dict[str, str] = {}  #: long options of ``sbatch``, without dashes
    parameters: dict[str, str | int | float | bool | None] = {}
    accepts: str = ""  #: conditions for the inputs, see `biomeroworker.domain.accepts`
    folder: str = ""  #: the run's folder on the cluster, absolute
    cluster: str = ""  #: its name in the configuration; the cluster of [SSH] and [SLURM] has none
