"""The model of a workflow, for all formats of descriptors.

`readers` parses the three formats into it, and `store` finds descriptors on disk or on the web.
"""

from __future__ import annotations

import enum
import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class ParameterType(enum.StrEnum):
    """The type of a parameter's value."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    NUMBER = "number"  #: BIAFLOWS' Number, with or without a fraction
    BOOLEAN = "boolean"
    IMAGE = "image"  #: this and the following: files, given as a path
    FILE = "file"
    ARRAY = "array"
    MEASUREMENT = "measurement"
    EXECUTABLE = "executable"


#: For inputs of these types a container with flags for them (bilayers) gets a folder of files.
FOLDER_TYPES = frozenset({
    ParameterType.IMAGE, ParameterType.FILE, ParameterType.ARRAY, ParameterType.MEASUREMENT, ParameterType.EXECUTABLE,
})  # fmt: skip
_NUMERIC = frozenset({ParameterType.INTEGER, ParameterType.FLOAT, ParameterType.NUMBER})


class Family(enum.StrEnum):
    """The conventions of the container's command line."""

    BIAFLOWS = "biaflows"
    BIOMERO = "biomero"
    BILAYERS = "bilayers"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameter(_Frozen):
    """One input or output of a workflow.

    ``command_line_flag`` has ``@id`` expanded; empty means positional. A user cannot set ``set_by_server`` inputs. The
    value of an ``is_switch`` boolean is the presence of its flag, that of others the word True or False.
    """

    id: Annotated[str, Field(min_length=1)]
    type: ParameterType
    name: str
    description: str = ""
    default: str | int | float | bool | None = None
    optional: bool = False
    choices: tuple[str | int | float | bool, ...] = ()
    choice_labels: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    command_line_flag: str = ""
    value_key: str = ""
    set_by_server: bool = False
    file_attachment: bool = False
    several_files: bool = False  #: a file parameter that always gets a folder
    output_folder: bool = False
    is_switch: bool = False
    advanced: bool = False
    formats: tuple[str, ...] = ()
    sub_types: tuple[str, ...] = ()
    depth: bool | None = None  #: whether an image may have several planes in Z; None: not declared
    timepoints: bool | None = None  #: the same for time points

    @field_validator("command_line_flag", "value_key", "id")
    @classmethod
    def _one_word(cls, text: str) -> str:
        if any(character.isspace() or character == "\0" for character in text):
            raise ValueError(f"{text!r} must be one word")
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Parameter:
        if (self.minimum is not None or self.maximum is not None) and self.type not in _NUMERIC:
            raise ValueError(f"a {self.type} has no minimum or maximum")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"the minimum {self.minimum:g} is above the maximum {self.maximum:g}")
        if self.type in _NUMERIC and isinstance(self.default, int | float):
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if not low <= self.default <= high:
                raise ValueError(f"the default {self.default:g} is not between {low:g} and {high:g}")
        if self.choice_labels and len(self.choice_labels) != len(self.choices):
            raise ValueError("there must be one label per choice")
        return self


class Workflow(_Frozen):
    """One workflow: its name, container image, inputs and outputs."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    family: Family
    container_image: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
    container_type: str = "docker"
    type: str = ""  #: BIAFLOWS' problem class, e.g. ``object-segmentation``
    command_line: str = ""
    #: The program in the image that gets the arguments (bilayers); empty: the entry point of the image
    command: tuple[str, ...] = ()
    inputs: tuple[Parameter, ...] = ()
    outputs: tuple[Parameter, ...] = ()
    fixed_arguments: tuple[str, ...] = ()  #: arguments of every run, after the parameters
    schema_version: str = ""
    origin: str = ""  #: the file or address of the descriptor

    @field_validator("inputs", "outputs")
    @classmethod
    def _distinct(cls, parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
        seen: set[str] = set()
        for parameter in parameters:
            if parameter.id in seen:
                raise ValueError(f"two parameters have the name {parameter.id}")
            seen.add(parameter.id)
        return parameters

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The inputs that a user can set."""
        return tuple(one for one in self.inputs if not one.set_by_server or one.file_attachment)

    @property
    def format(self) -> Literal["tiff", "zarr"]:
        """The image format that the container reads: OME-Zarr if an image input declares it, else TIFF."""
        images = [one for one in self.inputs if one.type is ParameterType.IMAGE]
        zarr = any("zarr" in name.lower() for one in images for name in one.formats)
        return "zarr" if zarr or self.takes_plates else "tiff"

    @property
    def takes_plates(self) -> bool:
        """Whether an image input accepts whole plates."""
        return any("plate" in one.sub_types for one in self.inputs if one.type is ParameterType.IMAGE)

    @property
    def requires_plate(self) -> bool:
        """Whether it works on whole plates only: an image input declares plates, and no other kind of image."""
        kinds = [{kind.lower() for kind in one.sub_types} for one in self.inputs if one.type is ParameterType.IMAGE]
        return {"plate"} in kinds
