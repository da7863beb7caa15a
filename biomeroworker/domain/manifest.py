"""What travels with the pixels: one manifest with the inputs, one with the results.

Inputs are named by id on the cluster (``image-<id>.ome.zarr``), never by the user's file name, so results are matched
to inputs exactly, many to one. The user's names travel here, as data, and come back at import. Both manifests are
JSON; the job reads the first and writes the second, so they hold nothing but what JSON can.
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


def _contained(path: str) -> str:
    """A relative path that stays below its folder, as POSIX text; raises ValueError otherwise."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in path:
        raise ValueError(f"{path!r} is not a path below the run's folder")
    return path


ContainedPath = Annotated[str, AfterValidator(_contained)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PhysicalSize(_Frozen):
    """The size of one pixel along one axis; ``unit`` is a UDUNITS-2 name as OME-NGFF 0.4 wants it (``micrometer``)."""

    value: float
    unit: str = "micrometer"


class InputImage(_Frozen):
    """One image (or plate) of the run.

    ``key`` (``image-<id>``, ``plate-<id>``) names it on the cluster and in the names of its results; ``shape`` is
    TCZYX in pixels; ``origin`` is the source's own reference (an OMERO id, a file name), opaque to everyone else.
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
    def fields(self) -> tuple[str, ...]:
        """Of a plate: where its fields lie in it (``A/1/0``), wells in reading order; nothing for an image."""
        return tuple(name for name in self.origin if "/" in name)


def folder_name(chunk: int) -> str:
    """The folder of a chunk below ``in/``: its number with zeros in front, as `job.sh` writes it too."""
    return f"{chunk:04d}"


class Chunk(_Frozen):
    """The inputs of one task of a run that is split: these images, or of one plate these ``fields`` (none: all)."""

    keys: tuple[str, ...]
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Portion:
    """An input, or of a plate some fields: what is exported at once. No ``fields``: all of it."""

    image: InputImage
    fields: tuple[str, ...] = ()


class InputManifest(_Frozen):
    """All that a run sends. ``chunks`` tells which task works on what; a run that is one job has none."""

    run: str
    images: tuple[InputImage, ...]
    chunks: tuple[Chunk, ...] = ()

    def find(self, key: str) -> InputImage | None:
        """The image with that key."""
        return next((image for image in self.images if image.key == key), None)

    def portions(self, chunk: int | None = None) -> tuple[Portion, ...]:
        """What a chunk consists of; everything if none is named."""
        if chunk is None:
            return tuple(Portion(image) for image in self.images)
        wanted = self.chunks[chunk]
        known = {image.key: image for image in self.images}
        return tuple(Portion(known[key], wanted.fields) for key in wanted.keys)


class ResultFile(_Frozen):
    """One file that the workflow left in ``out/``; ``sha256`` is of the file as it lies on the cluster."""

    path: ContainedPath
    size: int
    sha256: str

    @property
    def input_key(self) -> str | None:
        """The key of the input whose id stands in the file's name (``image-12_mask.tif`` → ``image-12``), if any."""
        found = _INPUT_KEY.search(PurePosixPath(self.path).name)
        return f"{found[1]}-{found[2]}" if found else None


class ResultManifest(_Frozen):
    """All that a run got back; the third witness of its success."""

    run: str
    attempt: int
    files: tuple[ResultFile, ...]
