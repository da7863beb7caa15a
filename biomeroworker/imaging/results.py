"""Sort the results of a workflow into images, tables and other files, and name the axes of the images.

An OME-Zarr image is a folder of many files, and one result; so is each label image and each field of a plate. Results
are matched to inputs by the key in their names (`ResultFile.input_key`); a result without a key belongs to the whole
run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from biomeroworker.domain.manifest import InputImage, InputManifest, ResultFile, ResultManifest
from biomeroworker.errors import Permanent
from biomeroworker.imaging.image_file import PNG, TIFF

Kind = Literal["image", "table", "file"]
_TABLE_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True)
class Result:
    """One file of the results, or one OME-Zarr image, with its input."""

    path: str  #: below ``out/``
    kind: Kind
    input: InputImage | None
    size: int = 0
    members: tuple[str, ...] = ()  #: the files of an OME-Zarr image

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the result, below ``out/``."""
        return self.members or (self.path,)

    @property
    def suffix(self) -> str:
        """What the workflow added to the input's key: ``image-12_mask.tif`` → ``mask``; the stem if there is no key."""
        stem = stem_of(self.path)
        if self.input is None:
            return stem
        before, _, after = stem.partition(self.input.key)
        return "_".join(filter(None, (part.strip("._- ") for part in (before, after))))


def sort(results: ResultManifest, inputs: InputManifest) -> list[Result]:
    """All results, by path."""
    files = {file.path: file for file in results.files}
    found = []
    for place, members in zarr_images(files).items():
        whole = ResultFile(path=_zarr_of(place), size=sum(files[path].size for path in members), sha256="")
        found.append(Result(place, "image", _input_of(whole, inputs), whole.size, members))
    inside = {path for image in found for path in image.members}
    for path in files.keys() - inside:
        found.append(Result(path, kind_of(path), _input_of(files[path], inputs), files[path].size))
    return sorted(found, key=lambda result: result.path)


def _input_of(file: ResultFile, inputs: InputManifest) -> InputImage | None:
    return inputs.find(file.input_key) if file.input_key else None


def _zarr_of(place: str) -> str:
    """The folder of the Zarr in which an image is."""
    parts = PurePosixPath(place).parts
    return "/".join(parts[: next(number for number, part in enumerate(parts, 1) if part.endswith(".zarr"))])


def zarr_images(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every image of OME-Zarr among these files: its folder, and the files that belong to it.

    A file belongs to the innermost image that contains it. Files above the images of a Zarr, such as the metadata of a
    plate, belong to the first image.
    """
    zarrs: dict[PurePosixPath, list[PurePosixPath]] = {}
    for path in map(PurePosixPath, paths):
        root = next((folder for folder in reversed(path.parents) if folder.suffix == ".zarr"), None)
        if root is not None:
            zarrs.setdefault(root, []).append(path)
    found: dict[str, list[str]] = {}
    for root, members in zarrs.items():
        images = sorted({array.parent for array in _arrays(members) if array != root})
        found |= {str(image): [] for image in images}
        for file in sorted(members) if images else ():
            image = next((folder for folder in file.parents if folder in images), images[0])
            found[str(image)].append(str(file))
    return {image: tuple(files) for image, files in found.items()}


def _arrays(files: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """The folders of arrays: those with ``.zarray`` (format 2), and the innermost with ``zarr.json`` (format 3)."""
    nodes = {file.parent for file in files if file.name == "zarr.json"}
    groups = {folder for node in nodes for folder in node.parents}
    return {file.parent for file in files if file.name == ".zarray"} | (nodes - groups)


def kind_of(path: str) -> Kind:
    """The kind of a file by its suffix; a file inside a Zarr folder is never an image."""
    if any(part.endswith(".zarr") for part in PurePosixPath(path).parts[:-1]):
        return "file"
    name = path.lower()
    if name.endswith((*TIFF, *PNG)):
        return "image"
    return "table" if name.endswith(_TABLE_SUFFIXES) else "file"


def stem_of(path: str) -> str:
    """The file's name without the suffix of its format (``.ome.tiff`` is one suffix).

    An image inside OME-Zarr has its path in the name: ``x.ome.zarr/labels/cells`` → ``x_labels_cells``.
    """
    parts = PurePosixPath(path).parts
    root = next((number for number, part in enumerate(parts[:-1]) if part.endswith(".zarr")), len(parts) - 1)
    return "_".join([re.sub(r"(\.ome)?\.[^.]+$", "", parts[root]), *parts[root + 1 :]])


def to_tczyx(values: np.ndarray[Any, Any], axes: str, shape: Sequence[int] | None) -> np.ndarray[Any, Any]:
    """Order the axes of an image as TCZYX; missing ones get length 1.

    Parameters
    ----------
    axes
        A letter for each dimension, as `name_axes` reads them.
    shape
        TCZYX of the input, if there is one.
    """
    named = name_axes(axes, values.shape, shape)
    values = values[tuple(slice(None) if letter else 0 for letter in named)]
    letters = [letter for letter in named if letter]
    present = [letter for letter in "TCZYX" if letter in letters]
    if present[-2:] != ["Y", "X"]:
        raise Permanent(f"a result has axes {axes}, which is not an image")
    values = values.transpose([letters.index(letter) for letter in present])
    return values.reshape([values.shape[present.index(letter)] if letter in present else 1 for letter in "TCZYX"])


def name_axes(axes: str, lengths: Sequence[int], shape: Sequence[int] | None) -> list[str]:
    """A letter of TCZYX for each axis; "" for one of length 1 that has no place.

    An axis that the file does not name (tifffile's ``Q`` and ``I``) is the input's axis of the same length, or Z if
    none or several have this length. Samples (``S``) are channels. But a stack of three or four planes, which tifffile
    wrote as the colours of an RGB image, is the stack that the input is.
    """
    named = list(axes)
    for position, (letter, length) in enumerate(zip(axes, lengths, strict=True)):
        if letter in "TCZYX":
            continue
        free = [name for name in "ZTC" if name not in named]
        fitting = [name for name in free if shape is not None and shape["TCZYX".index(name)] == length]
        if not free and length > 1:
            raise Permanent(f"a result has axes {axes} with {tuple(lengths)} pixels, more than T, C, Z, Y and X")
        is_colour = "C" in fitting or not fitting or position > axes.find("Y")
        if letter == "S" and "C" in free and is_colour:
            named[position] = "C"
        else:
            named[position] = next(iter(fitting or free), "")
    return named
