"""Create ROIs from outlines: one ROI for each object, on the image that it was found in.

A ROI has one polygon (or mask) for each piece and plane. ROIs and their links to the provenance are saved together,
some hundreds in one transaction. They are named by their label, so that a repeated import knows which ones are missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import omero.model
from omero.rtypes import rint, rstring

from biomeroworker.domain.manifest import InputImage
from biomeroworker.omero.connection.session import OmeroSession, batched
from biomeroworker.omero.importing.annotations import ProvenanceAnnotations
from biomeroworker.omero.importing.outlines import Outline, looks_like_labels, outlines, packed_mask

Shape = Literal["polygon", "mask"]
#: ROIs in one call and one transaction.
BATCH_SIZE = 500
#: Shapes have no fill and a yellow line, as OMERO.iviewer draws them; colours are RGBA in 32 signed bits.
YELLOW = int.from_bytes((255, 255, 0, 255), "big", signed=True)
#: Colours that have a name; any other is written ``#RRGGBB``.
COLOURS = {
    "black": "#000000", "white": "#ffffff", "red": "#ff0000", "green": "#00ff00", "blue": "#0000ff",
    "yellow": "#ffff00", "cyan": "#00ffff", "magenta": "#ff00ff", "orange": "#ffa500",
}  # fmt: skip
_HEX = re.compile(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")


def colour_of(text: str) -> int:
    """A colour as OMERO stores it, from ``#RRGGBB``, ``#RRGGBBAA`` or a name; raises ValueError for other text."""
    found = _HEX.fullmatch(COLOURS.get(text.strip().lower(), text.strip()))
    if found is None:
        raise ValueError(f"{text!r} is not a colour: write #RRGGBB, or one of {', '.join(COLOURS)}")
    return int.from_bytes(bytes.fromhex(found[1] + (found[2] or "ff")), "big", signed=True)


def clear(colour: int) -> int:
    """The same colour, fully transparent: the fill of an outline."""
    return int.from_bytes(colour.to_bytes(4, "big", signed=True)[:3] + b"\0", "big", signed=True)


def planes_of(
    values: np.ndarray[Any, Any], source: InputImage
) -> list[tuple[int | None, int | None, np.ndarray[Any, Any]]]:
    """The planes ``(z, t, YX)`` of a TCZYX label image with the shape of the source; empty if the shapes differ.

    A label image with one Z (or T) applies to all Z (or T) of the source; its index is None then.
    """
    t_count, _, z_count, height, width = source.shape
    t, c, z, y, x = values.shape
    if c != 1 or values.dtype.kind not in "iu" or (y, x) != (height, width):
        return []
    if t not in (1, t_count) or z not in (1, z_count):
        return []
    return [
        (iz if z == z_count else None, it if t == t_count else None, values[it, 0, iz])
        for it in range(t)
        for iz in range(z)
    ]


def add_rois(
    session: OmeroSession,
    values: np.ndarray[Any, Any],
    source: InputImage,
    image: int,
    result: str,
    marks: ProvenanceAnnotations,
    *,
    name: str,
    shape: Shape = "polygon",
    colour: int = YELLOW,
    before: Callable[[], None] = lambda: None,
) -> int:
    """Create ROIs for the objects of a label image on ``image``; returns their number (0: not a label image).

    ``before`` is called before the first ROI is created, if there are objects.
    """
    planes = planes_of(values, source)
    objects = _objects(planes)
    if objects:
        before()
    named = {label: f"{name[:200]} {label}" for label in sorted(objects)}
    there = {
        row[0]
        for row in session.rows(
            "select r.name from RoiAnnotationLink l join l.parent as r"
            " where l.child.id = :mark and r.image.id = :image",
            mark=marks.id(result),
            image=image,
        )
    }
    rois = [
        _roi(image, named[label], str(label), _shapes(shape, label, pieces, planes), marks.reference(result), colour)
        for label, pieces in sorted(objects.items())
        if named[label] not in there
    ]
    for part in batched(rois, BATCH_SIZE):
        session.save(part)
    if rois:
        _drop_doubles(session, image, marks.id(result))
    return len(objects)


def draw_rois(
    session: OmeroSession,
    values: np.ndarray[Any, Any],
    source: InputImage,
    image: int,
    *,
    name: str,
    shape: Shape = "polygon",
    colour: int = YELLOW,
) -> int:
    """Create ROIs like `add_rois`, without provenance: a ROI of the same name on ``image`` is used as it is."""
    planes = planes_of(values, source)
    objects = _objects(planes)
    named = {label: f"{name[:200]} {label}" for label in sorted(objects)}
    there = {row[0] for row in session.rows("select r.name from Roi r where r.image.id = :image", image=image)}
    rois = [
        _roi(image, named[label], str(label), _shapes(shape, label, pieces, planes), None, colour)
        for label, pieces in sorted(objects.items())
        if named[label] not in there
    ]
    for part in batched(rois, BATCH_SIZE):
        session.save(part)
    return len(objects)


def _objects(planes: list[tuple[int | None, int | None, np.ndarray[Any, Any]]]) -> dict[int, list[tuple[int, Outline]]]:
    """The pieces of each object, with the numbers of their planes; empty if the planes do not look like labels."""
    found = [outlines(plane) for _, _, plane in planes]
    objects: dict[int, list[tuple[int, Outline]]] = {}
    if looks_like_labels(found):
        for number, plane in enumerate(found):
            for outline in plane:
                objects.setdefault(outline.label, []).append((number, outline))
    return objects


def clear_rois(session: OmeroSession, image: int, since: int, words: str) -> None:
    """Delete the ROIs of an image that are older than the annotation ``since``, and whose names contain ``words``.

    The annotation is the first object that an import creates. So a repeated import deletes neither its own ROIs nor
    those that a person drew after its start. ROIs that the user may not delete are left.
    """
    (start,) = session.rows("select a.details.creationEvent.id from Annotation a where a.id = :id", id=since)[0]
    delete_rois(session, image, words, before=start)


def delete_rois(session: OmeroSession, image: int, words: str, *, before: float = math.inf) -> None:
    """Delete the ROIs of an image whose names contain ``words``; those that the user may not delete are left.

    Parameters
    ----------
    before
        An event's id: only ROIs that were created by earlier events.
    """
    rows = session.rows(
        "select r.id, r.name, r.details.creationEvent.id from Roi r where r.image.id = :image", image=image
    )
    old = [number for number, name, event in rows if event < before and words in (name or "")]
    found = session.query_by_ids("select r from Roi r where r.id in (:ids)", old) if old else []
    mine = sorted(roi.id.val for roi in found if roi.details.permissions.canDelete())
    session.delete_what_is_there("Roi", mine)


def _drop_doubles(session: OmeroSession, image: int, mark: int) -> None:
    """Delete the younger of two ROIs of one object: another process that was believed dead may have created one too."""
    rows = session.rows(
        "select r.name, r.id from RoiAnnotationLink l join l.parent as r"
        " where l.child.id = :mark and r.image.id = :image",
        mark=mark,
        image=image,
    )
    oldest: dict[str, int] = {}
    for name, number in sorted(rows):
        oldest.setdefault(name, number)
    session.delete_what_is_there("Roi", [number for name, number in rows if number != oldest[name]])


def _roi(image: int, name: str, label: str, shapes: Iterator[Any], mark: Any, colour: int) -> Any:
    roi = omero.model.RoiI()
    roi.image = omero.model.ImageI(image, False)
    roi.name = rstring(name)
    for shape in shapes:
        shape.textValue = rstring(label)
        shape.strokeColor, shape.fillColor = rint(colour), rint(clear(colour))
        roi.addShape(shape)
    if mark is not None:
        roi.linkAnnotation(mark)
    return roi


def _shapes(
    kind: Shape,
    label: int,
    pieces: list[tuple[int, Outline]],
    planes: list[tuple[int | None, int | None, np.ndarray[Any, Any]]],
) -> Iterator[Any]:
    if kind == "polygon":
        for number, outline in pieces:
            polygon = omero.model.PolygonI()
            polygon.points = rstring(" ".join(f"{x},{y}" for x, y in outline.points))
            yield _placed(polygon, *planes[number][:2])
        return
    for number in sorted({number for number, _ in pieces}):
        x, y, width, height, data = packed_mask(planes[number][2] == label)
        mask = omero.model.MaskI()
        mask.x, mask.y, mask.width, mask.height = (omero.rtypes.rdouble(value) for value in (x, y, width, height))
        mask.bytes = data
        yield _placed(mask, *planes[number][:2])


def _placed(shape: Any, z: int | None, t: int | None) -> Any:
    if z is not None:
        shape.theZ = rint(z)
    if t is not None:
        shape.theT = rint(t)
    return shape
