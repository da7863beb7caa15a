"""ROIs from label images that are in OMERO: which label image belongs to which image, and drawing.

The provenance of a label image that a run imported names the image that it was made from. Other label images belong to
the image whose name they have, with a suffix. A name that fits several images is ambiguous: it is reported, not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from biomeroworker.domain.manifest import keys_in
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.exporting import zarr_layout
from biomeroworker.omero.exporting.describe import ImageInfo, select
from biomeroworker.omero.exporting.export import byte_count, describe, read_pixels
from biomeroworker.omero.importing.annotations import NAMESPACE
from biomeroworker.omero.importing.rois import YELLOW, Shape, delete_rois, draw_rois

#: Larger label images are refused: all of their pixels are in memory at once.
LARGEST_BYTES = 2 << 30
_SUFFIX = re.compile(r"(\.ome)?\.[A-Za-z][A-Za-z0-9]{0,7}(?=\s*(\[.*\])?$)")


@dataclass(frozen=True)
class Pair:
    """Ids of a label image, and of the image on which its ROIs are drawn."""

    label: int
    target: int


@dataclass(frozen=True)
class Drawing:
    """How to draw."""

    shape: Shape = "polygon"
    colour: int = YELLOW
    prefix: str = ""  #: of the names of the ROIs; empty: the name of the label image
    clear: bool = False  #: first delete the ROIs of the images
    clear_filter: str = ""  #: only those whose names contain this
    delete_labels: bool = False  #: delete each label image when its ROIs exist


@dataclass
class Drawn:
    """What was drawn, and a sentence for each label image that was not."""

    objects: int = 0
    images: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def explicit_pairs(labels: Sequence[int], targets: Sequence[int]) -> list[Pair]:
    """The label images and the images in the same order. Raises `RequestRejected` if their numbers differ, or are 0."""
    if not labels or len(labels) != len(targets):
        raise RequestRejected(
            f"each label image needs its image: {len(labels)} label images and {len(targets)} images are given"
        )
    return [Pair(label, target) for label, target in zip(labels, targets, strict=True)]


def find_pairs(
    labels: Mapping[int, str], targets: Mapping[int, str], made_from: Mapping[int, int], suffix: str
) -> tuple[list[Pair], list[str]]:
    """Pair label images with images, by provenance and then by name.

    Parameters
    ----------
    labels, targets
        Names by id.
    made_from
        The image that each label image was made from, as far as it is known.
    suffix
        What the name of a label image has in addition to that of its image, before the file type (``_mask``).

    Returns
    -------
    the pairs, and a sentence for each ambiguous name
    """
    by_stem: dict[str, list[int]] = {}
    for number, name in targets.items():
        by_stem.setdefault(_stem(name), []).append(number)
    pairs, problems = [], []
    for number, name in labels.items():
        if number in made_from:
            if made_from[number] in targets:
                pairs.append(Pair(number, made_from[number]))
            continue
        if not _stem(name).endswith(suffix) or (not suffix and number in targets):
            continue
        found = by_stem.get(_stem(name).removesuffix(suffix), [])
        if len(found) == 1:
            pairs.append(Pair(number, found[0]))
        elif found:
            problems.append(f"{name}: {len(found)} images have this name, so the label image belongs to none of them.")
    return pairs, problems


def _stem(name: str) -> str:
    """The last part of a name, without the file type."""
    return _SUFFIX.sub("", PurePosixPath(name).name)


def images_made_from(session: OmeroSession, labels: Sequence[int]) -> dict[int, int]:
    """The image that each label image was made from, by the provenance of runs."""
    rows = session.rows_by_ids(
        "select l.parent.id, a.description from ImageAnnotationLink l join l.child as a"
        " where l.parent.id in (:ids) and a.ns = :ns",
        labels,
        ns=NAMESPACE,
    )
    found: dict[int, int] = {}
    for number, description in rows:
        for key in keys_in(description or ""):
            if key.startswith("image-"):
                found[number] = int(key.removeprefix("image-"))
    return found


def siblings(session: OmeroSession, images: Sequence[int]) -> dict[int, str]:
    """Names by id of all images in the datasets of these images."""
    query = "select l.parent.id from DatasetImageLink l where l.child.id in (:ids)"
    datasets = {row[0] for row in session.rows_by_ids(query, images)}
    query = "select i.id, i.name from DatasetImageLink l join l.child as i where l.parent.id in (:ids)"
    rows = session.rows_by_ids(query, datasets) if datasets else []
    return {int(number): str(name) for number, name in rows}


def draw(session: OmeroSession, pairs: Sequence[Pair], drawing: Drawing, report: Callable[[str], None]) -> Drawn:
    """Draw the ROIs of each pair. What cannot be drawn is a problem in the result, and the others are drawn."""
    drawn = Drawn()
    infos = {
        one.id: one for one in select(session, "Image", sorted({n for p in pairs for n in (p.label, p.target)})).images
    }
    allowed = _allowed(session, [pair.target for pair in pairs], "canAnnotate")
    cleared: set[int] = set()
    for number, pair in enumerate(pairs, start=1):
        label, target = infos[pair.label], infos[pair.target]
        if pair.target not in allowed:
            drawn.problems.append(f"{target.name} (image {target.id}): you may not add ROIs to it; it is read-only.")
            continue
        if problem := unusable(label, target):
            drawn.problems.append(problem)
            continue
        values = read_pixels(session, label)
        if drawing.clear and target.id not in cleared and np.any(values):
            delete_rois(session, target.id, drawing.clear_filter)
            cleared.add(target.id)
        name = drawing.prefix or _stem(label.name)
        source = describe(f"image-{target.id}", target)
        count = draw_rois(session, values, source, target.id, name=name, shape=drawing.shape, colour=drawing.colour)
        if not count:
            drawn.problems.append(f"{label.name} (image {label.id}) has no objects, or is not a label image.")
            continue
        drawn.objects += count
        drawn.images.add(target.id)
        report(f"{count} ROIs on {target.name} (image {target.id}); {number} of {len(pairs)} label images")
        if drawing.delete_labels:
            if _allowed(session, [label.id], "canDelete"):
                session.delete("Image", [label.id])
            else:
                drawn.problems.append(f"{label.name} (image {label.id}) is not deleted: you do not have the right.")
    return drawn


def unusable(label: ImageInfo, target: ImageInfo) -> str:
    """Why a label image does not fit an image; empty if it fits."""
    name = f"{label.name} (image {label.id})"
    if label.pixel_type not in zarr_layout.DTYPES or np.dtype(zarr_layout.DTYPES[label.pixel_type]).kind not in "iu":
        return f"{name} has pixels of type {label.pixel_type}; labels are whole numbers."
    if byte_count(label) > LARGEST_BYTES:
        return (
            f"{name} has {byte_count(label) / 1e9:.1f} GB of pixels; at most {LARGEST_BYTES / 1e9:.1f} GB are possible."
        )
    (t, c, z, *plane), (t_count, _, z_count, *target_plane) = label.shape, target.shape
    if c != 1 or plane != target_plane or t not in (1, t_count) or z not in (1, z_count):
        sizes = ["x".join(str(size) for size in reversed(image.shape)) for image in (label, target)]
        return f"{name} has {sizes[0]} pixels (X, Y, Z, C, T), and {target.name} has {sizes[1]}; they must be equal."
    return ""


def _allowed(session: OmeroSession, images: Sequence[int], right: str) -> set[int]:
    found = session.query_by_ids("select i from Image i where i.id in (:ids)", images)
    return {image.id.val for image in found if getattr(image.details.permissions, right)()}
