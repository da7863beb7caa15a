"""Import result images into OMERO: create them, write pixels over several connections, link them when complete.

An image has its provenance as description. So an image that a crash left incomplete is found, deleted and created
again: OMERO accepts pixels only once, and an incomplete image cannot be completed.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import omero.model
from omero.model.enums import UnitsLength
from omero.rtypes import rstring

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import (
    CONNECTIONS,
    LARGEST_READ_BYTES,
    PLANE_LIMIT_PIXELS,
    OmeroSession,
    parameters,
    pixels_store,
    with_long_timeout,
)
from biomeroworker.omero.importing.annotations import ProvenanceAnnotations
from biomeroworker.omero.importing.results import Pixels, to_pyramid_type

#: Images that are created and linked together; each connection reads the pixels of one image at a time.
BATCH_SIZE = 50
#: OMERO stores a plane of more pixels as a pyramid, unless the pixels are real numbers.
PYRAMID_ABOVE = PLANE_LIMIT_PIXELS**2


@dataclass(frozen=True)
class ResultImage:
    """One image to import: its result, its name, its description (``mark``), and a function that reads it."""

    result: str
    name: str
    mark: str
    read: Callable[[], Pixels]


def add_images(
    session: OmeroSession,
    pictures: Sequence[ResultImage],
    dataset: int,
    marks: ProvenanceAnnotations,
    report: Callable[[int], None],
) -> dict[str, int]:
    """Create the missing images in a dataset; returns the image's id for each result.

    ``report`` is called with the number of images that are complete.
    """
    there = _find_existing(session, pictures, marks)
    report(len(there))
    todo = [picture for picture in pictures if picture.result not in there]
    for start in range(0, len(todo), BATCH_SIZE):
        made = _make(session, todo[start : start + BATCH_SIZE])
        links: list[Any] = []
        for result, image in made.items():
            in_dataset = omero.model.DatasetImageLinkI()
            in_dataset.parent = omero.model.DatasetI(dataset, False)
            in_dataset.child = omero.model.ImageI(image, False)
            marked = omero.model.ImageAnnotationLinkI()
            marked.parent = omero.model.ImageI(image, False)
            marked.child = marks.reference(result)
            links += [in_dataset, marked]
        session.save(links)
        there |= made | marks.deduplicate("Image", list(made))
        report(len(there))
    return there


def _find_existing(
    session: OmeroSession, pictures: Sequence[ResultImage], marks: ProvenanceAnnotations
) -> dict[str, int]:
    """The complete images, by result; incomplete ones are deleted."""
    whole = marks.deduplicate("Image", [picture.result for picture in pictures])
    linked = marks.linked("Image", whole)
    by_mark = {picture.mark: picture.result for picture in pictures}
    rows = session.rows_by_ids(
        "select i.id, i.description from Image i where i.details.owner.id = :owner and i.description in (:ids)",
        by_mark,
        owner=session.user_id,
    )
    session.delete("Image", [image for image, mark in rows if image not in linked.get(by_mark[mark], [])])
    return whole


def _make(session: OmeroSession, pictures: Sequence[ResultImage]) -> dict[str, int]:
    """Create images with all their pixels; they are not linked yet."""
    writers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for writer in session.data_connections(min(CONNECTIONS, len(pictures))):
        writers.put(writer)
    types = _pixel_types(session)

    def one(picture: ResultImage) -> int:
        writer = writers.get()
        try:
            with translate_errors(f"write result {picture.result} to OMERO"):
                return write_image(writer, picture, types)
        finally:
            writers.put(writer)

    with ThreadPoolExecutor(min(CONNECTIONS, len(pictures)), "results") as pool:
        ids = list(pool.map(one, pictures))
    return {picture.result: image for picture, image in zip(pictures, ids, strict=True)}


def _pixel_types(session: OmeroSession) -> dict[str, Any]:
    return {entry.value.val: entry for entry in session.query("select t from PixelsType t")}


def write_image(sf: Any, picture: ResultImage, types: dict[str, Any]) -> int:
    """Create one image with all of its planes; returns its id.

    ``sf``: a session's ServiceFactory. ``types``: OMERO's PixelsType by name.
    """
    pixels = picture.read()
    t, c, z, y, x = pixels.values.shape
    if y * x > PYRAMID_ABOVE:
        pixels = replace(pixels, values=to_pyramid_type(pixels.values))
    image: int = (
        sf.getPixelsService()
        .createImage(x, y, z, t, list(range(c)), types[pixels.pixel_type], picture.name, picture.mark)
        .val
    )
    number = _describe(sf, image, pixels)
    with pixels_store(sf, number) as store:
        tile = store.getTileSize() if store.requiresPixelsPyramid() else None
        for it, ic, iz in np.ndindex(t, c, z):  # also the order that a pyramid needs
            _write_plane(store, pixels.values[it, ic, iz], iz, ic, it, tile)
        with_long_timeout(store).save()
    service = sf.getPixelsService()
    for channel in range(c):
        service.setChannelGlobalMinMax(number, channel, *limits(pixels.values[:, channel]))
    return image


def _describe(sf: Any, image: int, pixels: Pixels) -> int:
    """Set pixel sizes and channel names before any pixel is written; returns the id of the Pixels."""
    found = sf.getQueryService().findByQuery(
        "select p from Pixels p left outer join fetch p.channels as c left outer join fetch c.logicalChannel as lc"
        " where p.image.id = :id",
        parameters({"id": image}),
    )
    changed: list[Any] = []
    for axis, size in pixels.pixel_size.items():
        setattr(found, f"physicalSize{axis.upper()}", length(size))
    if pixels.pixel_size:
        changed.append(found)
    for channel, name in zip(found.copyChannels(), pixels.channels, strict=False):
        channel.logicalChannel.name = rstring(name)
        changed.append(channel.logicalChannel)
    if changed:
        sf.getUpdateService().saveCollection(changed)
    number: int = found.id.val
    return number


def limits(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """The least and the greatest finite value, as the range of the display; 0 and 1 if there is none."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return low, high


def length(size: PhysicalSize) -> Any:
    """A physical size as an OMERO length."""
    return omero.model.LengthI(size.value, getattr(UnitsLength, size.unit.upper()))


def _write_plane(
    store: Any, plane: np.ndarray[Any, Any], z: int, c: int, t: int, tile: Sequence[int] | None = None
) -> None:
    """Write one plane, big-endian: in one call, or if it is large in stripes of whole rows, which OMERO requires.

    A pyramid must be written in tiles of one size (``tile``: width and height), row by row, smaller at the edges.
    """
    data = plane.astype(plane.dtype.newbyteorder(">"), copy=False)
    height, width = plane.shape
    if tile is None and plane.nbytes <= LARGEST_READ_BYTES:
        store.setPlane(data.tobytes(), z, c, t)
        return
    wide, high = tile or (width, max(1, LARGEST_READ_BYTES // (width * plane.itemsize)))
    for y in range(0, height, high):
        for x in range(0, width, wide):
            part = data[y : y + high, x : x + wide]
            store.setTile(part.tobytes(), z, c, t, x, y, part.shape[1], part.shape[0])
