"""What to do with results: the ``outputs`` of a request whose results go to OMERO."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.importing.rois import colour_of


class Options(BaseModel):
    """The options of an import. All have defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = ""  #: name of the new dataset for result images; empty: "<workflow> results <run>"
    duplicates: bool = True  #: create it even if the user has one of that name; else results go into the existing one
    dataset_id: int | None = None  #: use this existing dataset instead
    images: bool = True  #: import result images
    rename: str = ""  #: pattern for their names: {original_file}, {original_ext}, {file}, {ext}
    rois: bool = True  #: create ROIs on the source images from label images
    roi_shape: Literal["polygon", "mask"] = "polygon"
    roi_colour: str = "yellow"  #: of their lines: #RRGGBB, or a name
    clear_rois: bool = False  #: before, delete ROIs of the source images
    clear_filter: str = ""  #: only those whose names contain this
    label_images: bool = True  #: also import label images from which ROIs were created
    label_pattern: str = "*"  #: which result files may be label images (shell pattern on their names)
    tables: bool = True  #: CSV files become OMERO.tables
    files: bool = True  #: other files become attachments
    attach_images: bool = False  #: attach result images to their source image, as files
    zip: bool = False  #: attach all results as one zip

    @field_validator("roi_colour")
    @classmethod
    def _a_colour(cls, text: str) -> str:
        colour_of(text)
        return text

    @classmethod
    def of(cls, outputs: dict[str, Any]) -> Options:
        """Check a request's outputs; raises `RequestRejected` with the names of the wrong options."""
        try:
            return cls.model_validate(outputs)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise RequestRejected(f"the options for the results are wrong: {wrong}") from None
