"""The request of a run: all that is needed to execute it, recorded when the run is accepted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class RecordedRequest(BaseModel):
    """The request of a run as any version may have recorded it: missing fields are empty, unknown fields ignored."""

    model_config = ConfigDict(frozen=True)

    workflow: str = ""  #: its name in the configuration
    version: str = ""  #: of the image; empty for the newest on the cluster
    parameters: dict[str, str | int | float | bool | None] = {}  #: by parameter id; checked against the descriptor
    #: By the id of a file parameter: references to files that the source reads (ids of file annotations, or paths)
    files: dict[str, tuple[int | str, ...]] = {}
    source: str = ""  #: name of the `Source` that exports the inputs and imports the results
    inputs: dict[str, Any] = {}  #: in the form of the source: {"type": "Dataset", "ids": [1]} or {"folder": "…"}
    outputs: dict[str, Any] = {}  #: what the source does with the results
    user: int = -1  #: OMERO's ids, -1 for none
    group: int = -1
    user_name: str = ""
    group_name: str = ""
    email: str = ""
    job_options: dict[str, str] = Field(default_factory=dict)  #: sbatch options of this run only
    use_gpu: bool | None = None  #: overrides the configuration of the workflow; None: no override
    batch_size: int = Field(default=0, ge=0)  #: images (fields of a plate) per job of an array; 0: all in one job
    only: dict[str, str] = {}  #: a part of the inputs: key (``image-7``, ``plate-5/A/1/0``) and name; empty: all
    use_zarr: bool = False  #: give OME-Zarr to the container, whatever image format its descriptor names
    keep_folder: bool = False  #: never remove the run's folder on the cluster
    retry_of: str = ""  #: the run that had this request before


class RunRequest(RecordedRequest):
    """All that a run needs. Contains no secret."""

    model_config = ConfigDict(extra="forbid")

    workflow: str
    source: Literal["omero", "folder"]
    inputs: dict[str, Any]
