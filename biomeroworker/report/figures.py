"""Draw small pictures of a run's inputs, with the outlines of its label images over them, and count the objects.

Of each image one plane is read (the middle Z, the first T), at most `WINDOW_PIXELS` wide and high: of a larger image
the centre. Label images that are too large are left out. Nothing else of the images is held in memory.
"""

from __future__ import annotations

import io
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from biomeroworker.domain.manifest import InputImage, InputManifest, Portion, ResultManifest, field_word
from biomeroworker.domain.source import Output
from biomeroworker.imaging import reader
from biomeroworker.imaging.results import Result, sort, to_tczyx
from biomeroworker.report.model import PICTURES, Figures, Picture

log = logging.getLogger(__name__)

#: Width and height of a picture, in pixels.
PICTURE_PIXELS = 256
#: Width and height of the part of an image that is read, in pixels.
WINDOW_PIXELS = 4096
#: Larger label images are not read.
LABELS_BYTES = 512 << 20
#: Larger labels are counted by sorting.
MARKED_LABELS = 50_000_000
#: In a label image, neighbouring pixels of objects nearly always have the same value; in a photograph rarely.
SAME_NEIGHBOURS = 0.7
#: Colours of the outlines of the first, second … label image of an input.
OUTLINE_COLOURS = ((255, 221, 51), (77, 225, 255), (255, 120, 220))
#: Colours of the channels, where there are several.
CHANNEL_COLOURS = ((0, 110, 255), (0, 220, 90), (255, 60, 60), (230, 200, 60))
_JPEG_QUALITY = 82
#: The outlines are drawn larger and then reduced, so that their lines are smooth.
_OVERSAMPLING = 2


@dataclass(frozen=True)
class Unit:
    """One image to show: an input image, or one field of a plate."""

    image: InputImage
    field: str = ""

    @property
    def key(self) -> str:
        """Unique in the run: ``image-7``, ``plate-5/A/1/0``."""
        return f"{self.image.key}/{self.field}" if self.field else self.image.key

    @property
    def name(self) -> str:
        """The user's name of the image."""
        return f"{self.image.name} {self.field}" if self.field else self.image.name

    @property
    def file(self) -> str:
        """The file name of its thumbnail."""
        return f"{self.key.replace('/', '_')}.jpg"

    def has(self, result: Result) -> bool:
        """Whether a result of its input belongs to it: of a plate, only results that name the field."""
        if not self.field or f"/{self.field}/" in f"/{result.path}/":
            return True
        return bool(re.search(rf"(?<![A-Za-z0-9]){field_word(self.field)}(?!\d)", result.path))


def units(images: Iterable[InputImage]) -> Iterator[Unit]:
    """The images and fields of a run, in its order."""
    for image in images:
        if image.fields:
            yield from (Unit(image, field) for field in image.fields)
        else:
            yield Unit(image)


# -- thumbnails ------------------------------------------------------------------------------------------------------


def keep_thumbnails(inputs: InputManifest, portions: Sequence[Portion], folder: Path, thumbnails: Path) -> None:
    """Write thumbnails of exported inputs that will be deleted before the end of the run.

    Parameters
    ----------
    portions, folder
        What was exported, and where.
    thumbnails
        Where the thumbnails are written; only of the inputs that the page shows.
    """
    shown = {unit.key for _, unit in zip(range(PICTURES), units(inputs.images), strict=False)}
    for portion in portions:
        fields = portion.fields or portion.image.fields
        for unit in [Unit(portion.image, field) for field in fields] or [Unit(portion.image)]:
            if unit.key in shown and not (thumbnails / unit.file).exists():
                picture = _thumbnail(unit, folder)
                if picture is not None:
                    thumbnails.mkdir(parents=True, exist_ok=True)
                    picture.save(thumbnails / unit.file, "JPEG", quality=_JPEG_QUALITY)


def _thumbnail(unit: Unit, folder: Path) -> Image.Image | None:
    """A picture of an exported input; None if it is not there or cannot be shown."""
    from biomeroworker.imaging.zarr_array import open_array  # imports zarr, which takes a second

    level = folder / unit.image.path / unit.field / "0"
    if not level.is_dir():
        return None
    try:
        array = open_array(level)
        _, c, z, height, width = array.shape
        rows, columns = window(height), window(width)
        planes = [np.asarray(array[0, channel, z // 2, rows, columns]) for channel in range(min(c, 4))]
    except Exception as error:  # codecs raise exceptions of their own
        log.warning("no thumbnail of %s: %s", unit.key, error)
        return None
    return _composed(planes)


def window(length: int) -> slice:
    """The part of an axis that is shown: all, or the centre."""
    start = max(0, (length - WINDOW_PIXELS) // 2)
    return slice(start, start + min(length, WINDOW_PIXELS))


def _size(height: int, width: int, largest: int = PICTURE_PIXELS) -> tuple[int, int]:
    """Width and height of a picture of so many pixels."""
    scale = largest / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _composed(planes: Sequence[np.ndarray[Any, Any]]) -> Image.Image:
    """One channel in grey, several in colours, each with its own contrast."""
    step = max(1, max(planes[0].shape) // (4 * PICTURE_PIXELS))
    grey = [Image.fromarray(_contrasted(plane[::step, ::step])) for plane in planes]
    small = [picture.resize(_size(*planes[0].shape), _filter(picture)) for picture in grey]
    if len(small) == 1:
        return small[0].convert("RGB")
    values = np.zeros((*reversed(small[0].size), 3), np.float32)
    for picture, colour in zip(small, CHANNEL_COLOURS, strict=False):
        values += np.asarray(picture, np.float32)[..., None] * np.asarray(colour, np.float32) / 255
    return Image.fromarray(values.clip(0, 255).astype(np.uint8), "RGB")


def _filter(picture: Image.Image) -> Image.Resampling:
    """Small images are enlarged in whole pixels, large ones are averaged."""
    return Image.Resampling.NEAREST if max(picture.size) < PICTURE_PIXELS else Image.Resampling.BOX


def _contrasted(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values as 8 bits, between the 0.5th and the 99.8th percentile."""
    finite = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane
    if not finite.size:
        return np.zeros(plane.shape, np.uint8)
    low, high = (float(value) for value in np.percentile(finite, (0.5, 99.8)))
    if high <= low:
        low, high = float(finite.min()), max(float(finite.max()), float(finite.min()) + 1)
    scaled = (plane.astype(np.float32) - low) * (255 / (high - low))
    scaled = np.nan_to_num(scaled, nan=0).clip(0, 255)
    return np.asarray(scaled, np.uint8)


# -- results over inputs ---------------------------------------------------------------------------------------------


def draw(
    inputs: InputManifest,
    exported: Path,
    thumbnails: Path,
    results: ResultManifest | None = None,
    folder: Path | None = None,
    made: Iterable[Output] = (),
) -> Figures:
    """The pictures of a run, and the objects in its images.

    Parameters
    ----------
    exported, thumbnails
        The exported inputs, and the thumbnails of those that are not there any more; both may be missing.
    results, folder
        The results and where they are; without, only the inputs are shown.
    made
        What the import made: the number of ROIs of each label image.
    """
    found = sort(results, inputs) if results else []
    images: dict[str, list[Result]] = {}
    for one in found:
        if one.kind == "image" and one.input is not None:
            images.setdefault(one.input.key, []).append(one)
    rois = {one.result: one.count for one in made if one.kind == "Roi"}
    pictures: list[Picture] = []
    objects: dict[str, list[tuple[str, int]]] = {}
    everything = list(units(inputs.images))
    for number, unit in enumerate(everything):
        own = [result for result in images.get(unit.image.key, ()) if unit.has(result)]
        counts = {_label_name(one): rois[one.path] for one in own if one.path in rois}
        if number < PICTURES:
            picture = _picture(unit, own, exported, thumbnails, folder, rois)
            counts = {**counts, **picture.objects}
            pictures.append(replace(picture, objects=counts))
        for label, count in counts.items():
            objects.setdefault(label, []).append((unit.name, count))
    return Figures(tuple(pictures), len(everything), {label: tuple(counts) for label, counts in objects.items()})


def _label_name(result: Result) -> str:
    return result.suffix.replace("labels_", "", 1) or "objects"


def _picture(
    unit: Unit,
    results: Sequence[Result],
    exported: Path,
    thumbnails: Path,
    folder: Path | None,
    rois: Mapping[str, int],
) -> Picture:
    base = _thumbnail(unit, exported)
    if base is None and (thumbnails / unit.file).is_file():
        with Image.open(thumbnails / unit.file) as stored:
            base = stored.convert("RGB")
    counts: dict[str, int] = {}
    drawn = base
    for result in results if folder else ():
        labels = _labels(folder / result.path, unit.image) if folder else None
        if labels is None:
            continue
        plane = _shown_plane(labels, unit.image)
        colour = OUTLINE_COLOURS[len(counts) % len(OUTLINE_COLOURS)]
        known = rois.get(result.path)
        counts[_label_name(result)] = count_objects(labels) if known is None else known
        if drawn is None:
            drawn = Image.new("RGB", _size(*plane.shape))
        drawn = _outlined(drawn, plane, colour)
    note = ""
    if drawn is None:
        note = "no picture: the exported image is not on this machine any more"
    elif max(unit.image.shape[3:]) > WINDOW_PIXELS:
        note = "centre of the image"
    return Picture(unit.name, unit.key, _jpeg(drawn) if drawn is not None else None, counts, note)


def _jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0)  # thin lines keep their colour
    return stream.getvalue()


def _labels(path: Path, source: InputImage) -> np.ndarray[Any, Any] | None:
    """A label image as TCZYX; None if it is none, or cannot be read."""
    try:
        with reader.opened(path) as image:
            if image.dtype.kind not in "iub" or math.prod(image.shape) * image.dtype.itemsize > LABELS_BYTES:
                return None
            values = to_tczyx(image.values, image.axes, source.shape)
    except Exception as error:  # the import has the last word on broken files
        log.warning("the result %s is not drawn: %s", path.name, error)
        return None
    if values.shape[1] != 1 or values.shape[3:] != source.shape[3:]:
        return None
    return values if looks_like_labels(_shown_plane(values, source)) else None


def _shown_plane(values: np.ndarray[Any, Any], source: InputImage) -> np.ndarray[Any, Any]:
    """The plane of a label image that lies on the plane of the input that is shown."""
    z = source.shape[2] // 2 if values.shape[2] == source.shape[2] else 0
    plane: np.ndarray[Any, Any] = values[0, 0, z, window(values.shape[3]), window(values.shape[4])]
    return plane


def count_objects(labels: np.ndarray[Any, Any]) -> int:
    """The number of different labels; 0 is background."""
    if labels.dtype.kind == "b":
        return int(labels.any())
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MARKED_LABELS:
        return int(np.count_nonzero(np.unique(labels)))
    seen = np.zeros(high + 1, bool)  # many times faster than np.unique, which sorts all pixels
    seen[labels.ravel()] = True
    return int(np.count_nonzero(seen[1:]))


def looks_like_labels(plane: np.ndarray[Any, Any]) -> bool:
    """Whether neighbouring pixels that are not background mostly have the same value."""
    left, right = plane[:, :-1], plane[:, 1:]
    both = (left != 0) & (right != 0)
    return not both.any() or float((left == right)[both].mean()) >= SAME_NEIGHBOURS


def _outlined(picture: Image.Image, plane: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> Image.Image:
    """The picture with a line along the edges of all objects."""
    width, height = (_OVERSAMPLING * length for length in picture.size)
    rows = np.arange(height) * plane.shape[0] // height
    columns = np.arange(width) * plane.shape[1] // width
    sampled = np.pad(plane[np.ix_(rows, columns)], 1)
    inner = sampled[1:-1, 1:-1]
    edge = np.zeros(inner.shape, bool)
    for other in (sampled[:-2, 1:-1], sampled[2:, 1:-1], sampled[1:-1, :-2], sampled[1:-1, 2:]):
        edge |= (other != inner) & (inner != 0)
    mask = Image.fromarray(edge.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BOX)
    mask = mask.point([min(255, 2 * value) for value in range(256)])
    return Image.composite(Image.new("RGB", picture.size, colour), picture, mask)
