"""The manifests of a run: one lists the inputs, one the results.

On the cluster, inputs are named by id (``image-<id>.ome.zarr``), never by the user's file name, so that results are
matched to inputs exactly, many to one. The manifest contains the user's names as data, for the import. Both manifests
are JSON: the job reads the first and writes the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

#: The file of the input manifest, beside ``in/`` and ``out/``.
INPUTS_FILE = "inputs.json"

_INPUT_KEY = re.compile(r"(?:^|[^A-Za-z0-9])(image|plate)-(\d+)(?=[^0-9]|$)")


def keys_in(name: str) -> tuple[str, ...]:
    """The keys of all inputs that a file name contains (``image-12_mask.tif`` → ``image-12``), in their order."""
    return tuple(f"{found[1]}-{found[2]}" for found in _INPUT_KEY.finditer(name))


def field_word(field: str) -> str:
    """The name of a field of a plate in the file names that the converter writes: ``A/1/0`` → ``A1_0``."""
    well, _, index = field.rpartition("/")
    return f"{well.replace('/', '')}_{index}"


def _contained(path: str) -> str:
    """Return a relative POSIX path that does not leave its folder; raises ValueError for any other path."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{path!r} is not a path below the run's folder")
    return path


ContainedPath = Annotated[str, AfterValidator(_contained)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhysicalSize(_Frozen):
    """The size of one pixel along one axis; ``unit`` is a UDUNITS-2 name, as in OME-NGFF 0.4 (``micrometer``)."""

    value: float
    unit: str = "micrometer"


class InputImage(_Frozen):
    """One image (or plate) of the run.

    ``key`` (``image-<id>``, ``plate-<id>``) names it on the cluster and in the names of its results; ``shape`` is
    TCZYX in pixels; ``origin`` is a reference that only the source interprets (an OMERO id, a file name).
    """

    key: Annotated[str, Field(pattern=r"^(image|plate)-\d+$")]
    path: ContainedPath
    name: str
    shape: tuple[int, int, int, int, int]
    pixel_type: str
    pixel_size: dict[Literal["x", "y", "z"], PhysicalSize] = {}
    channels: tuple[str, ...] = ()
    origin: dict[str, str | int] = {}

    @property
    def is_plate(self) -> bool:
        """Whether it is a plate; its shape and pixel type are those of its first field."""
        return self.key.startswith("plate-")

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of the fields of a plate (``A/1/0``), wells in reading order; empty for an image."""
        return tuple(name for name in self.origin if "/" in name)


class InputFile(_Frozen):
    """One file of a file parameter.

    ``path`` is below the folder of the run, ``name`` is the user's; ``origin`` is a reference for the source.
    """

    parameter: str
    path: ContainedPath
    name: str
    size: int
    origin: dict[str, str | int] = {}


def folder_name(chunk: int) -> str:
    """The folder of a chunk below ``in/``: its number with leading zeros, as in `job.sh`."""
    return f"{chunk:04d}"


class Chunk(_Frozen):
    """The inputs of one array task: images, or ``fields`` of one plate (empty: all fields)."""

    keys: tuple[str, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Portion:
    """The unit of export: an input, or some ``fields`` of a plate (empty: all of the input)."""

    image: InputImage
    fields: tuple[str, ...] = ()


class InputManifest(_Frozen):
    """All inputs of a run. ``chunks`` has the inputs of each array task; it is empty if the run is one job."""

    run: str
    images: tuple[InputImage, ...]
    chunks: tuple[Chunk, ...] = ()
    files: tuple[InputFile, ...] = ()  #: of file parameters; all tasks use the same ones

    def find(self, key: str) -> InputImage | None:
        """The image with that key."""
        return next((image for image in self.images if image.key == key), None)

    def portions(self, chunk: int | None = None) -> tuple[Portion, ...]:
        """The parts of a chunk; all inputs if ``chunk`` is None."""
        if chunk is None:
            return tuple(Portion(image) for image in self.images)
        wanted = self.chunks[chunk]
        known = {image.key: image for image in self.images}
        return tuple(Portion(known[key], wanted.fields) for key in wanted.keys)


class ResultFile(_Frozen):
    """One file that the workflow left in ``out/``; ``sha256`` is that of the file on the cluster."""

    path: ContainedPath
    size: int
    sha256: str

    @property
    def input_key(self) -> str | None:
        """The key of the input whose id is in the file name (``image-12_mask.tif`` → ``image-12``), or None."""
        return next(iter(keys_in(PurePosixPath(self.path).name)), None)


class ResultManifest(_Frozen):
    """All results of a run. Success also needs the final state of the scheduler and the exit marker of the job."""

    run: str
    attempt: int
    files: tuple[ResultFile, ...]
