"""Export images from OMERO as OME-Zarr: each plane is read once, over several connections, in bounded memory.

An incomplete OME-Zarr looks like a complete one. So an image is written under a temporary name that no reader uses, and
renamed after the last chunk. A repeated export uses the images with their final names and writes all others again.
Files are named by id; a user's names are data.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from biomeroworker.domain.manifest import InputImage
from biomeroworker.domain.source import Guard, ProgressCallback
from biomeroworker.errors import Permanent
from biomeroworker.imaging import ome_zarr
from biomeroworker.omero.connection.errors import translate_errors
from biomeroworker.omero.connection.session import (
    CONNECTIONS,
    LARGEST_READ_BYTES,
    PLANE_LIMIT_PIXELS,
    OmeroSession,
    pixels_store,
)
from biomeroworker.omero.exporting import zarr_layout
from biomeroworker.omero.exporting.describe import ImageInfo, PlateInfo, Selection


@dataclass
class _Progress:
    """Reports the bytes read so far as a fraction. Called from one thread."""

    total: int
    report: ProgressCallback
    guard: Guard
    done: int = 0

    def add(self, count: int, what: str) -> None:
        self.done += count
        self.guard.check()
        self.report(min(1.0, self.done / self.total) if self.total else 1.0, what)


def export(
    session: OmeroSession,
    selection: Selection,
    folder: Path,
    report: ProgressCallback,
    guard: Guard,
    *,
    connections: int = CONNECTIONS,
) -> list[InputImage]:
    """Write everything selected below ``folder`` as ``image-<id>.ome.zarr`` and ``plate-<id>.ome.zarr``.

    Parameters
    ----------
    folder
        The folder of the run's inputs; created if it is missing.
    report
        Called with the fraction of the bytes that are written.
    guard
        Checked before each report, and before an image or a plate appears at its place.

    Returns
    -------
    The entry of each image and plate in the manifest, in the order of the selection.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_incomplete(folder)
    refuse_strange_pixels(selection)
    progress = _Progress(sum(byte_count(image) for image in _images(selection)), report, guard)
    readers = session.data_connections(connections)
    made = [_export_image(readers, image, folder, progress) for image in selection.images]
    made += [_export_plate(readers, plate, folder, progress) for plate in selection.plates]
    return made


def _images(selection: Selection) -> list[ImageInfo]:
    return [*selection.images, *(field.image for plate in selection.plates for field in plate.fields)]


def refuse_strange_pixels(selection: Selection) -> None:
    """Raise `Permanent` for an image with a pixel type that OME-Zarr does not have."""
    for image in _images(selection):
        if image.pixel_type not in zarr_layout.DTYPES:
            raise Permanent(
                f"image {image.id} ({image.name}) has pixels of type {image.pixel_type}, which OME-Zarr does not have",
                hint="convert it to an integer or real type in OMERO",
            )


def byte_count(image: ImageInfo) -> int:
    """Bytes of an image's pixels as they come from OMERO."""
    return int(np.prod(image.shape)) * np.dtype(zarr_layout.DTYPES[image.pixel_type]).itemsize


def _export_image(readers: Sequence[Any], image: ImageInfo, folder: Path, progress: _Progress) -> InputImage:
    key = f"image-{image.id}"
    final = folder / f"{key}.ome.zarr"
    if final.is_dir():
        progress.add(byte_count(image), f"image {image.id} is there already")
    else:
        with _written_beside(final, progress.guard) as place:
            _write_image(readers, image, place, progress)
    return describe(key, image)


def _export_plate(readers: Sequence[Any], plate: PlateInfo, folder: Path, progress: _Progress) -> InputImage:
    key = f"plate-{plate.id}"
    final = folder / f"{key}.ome.zarr"
    if final.is_dir():
        progress.add(sum(byte_count(field.image) for field in plate.fields), f"plate {plate.id} is there already")
    else:
        with _written_beside(final, progress.guard) as place:
            ome_zarr.create_group(place, zarr_layout.plate_attributes(plate))
            for row in sorted({field.row for field in plate.fields}):
                ome_zarr.create_group(place / zarr_layout.row_name(row))
            for row, column in sorted({(field.row, field.column) for field in plate.fields}):
                well = place / zarr_layout.row_name(row) / str(column + 1)
                ome_zarr.create_group(well, zarr_layout.well_attributes(plate, row, column))
            for field in plate.fields:
                _write_image(
                    readers, field.image, place / zarr_layout.field_path(field.row, field.column, field.index), progress
                )
    return describe_plate(plate)


def describe_plate(plate: PlateInfo) -> InputImage:
    """The entry of a plate in the manifest: the shape of its first field, and the image at each path."""
    origin: dict[str, str | int] = {"type": "Plate", "id": plate.id}
    for field in plate.fields:
        origin[zarr_layout.field_path(field.row, field.column, field.index)] = field.image.id
    described = describe(f"plate-{plate.id}", plate.fields[0].image)
    return described.model_copy(update={"name": plate.name, "origin": origin})


def describe(key: str, image: ImageInfo) -> InputImage:
    """The entry of an image in the manifest."""
    return InputImage(
        key=key,
        path=f"{key}.ome.zarr",
        name=image.name,
        shape=image.shape,
        pixel_type=zarr_layout.DTYPES[image.pixel_type],
        pixel_size=image.pixel_size,
        channels=tuple(channel.name for channel in image.channels),
        origin={"type": "Image", "id": image.id},
    )


@contextmanager
def _written_beside(final: Path, guard: Guard) -> Iterator[Path]:
    """A temporary folder to write to; at the end of the block it is renamed to ``final``.

    Each call has its own folder, so that a process that was believed dead cannot write into the folder of its
    successor. ``guard`` is checked directly before the renaming.
    """
    temporary = final.with_name(f".{final.name}.{uuid4().hex[:12]}.part")
    temporary.mkdir()
    lock = os.open(temporary, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: `_remove_incomplete` removes nothing there
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        place = temporary / "whole"
        yield place
        guard.check()
        try:
            place.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process was faster, and wrote the same
                raise
    finally:
        os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_incomplete(folder: Path) -> None:
    """Remove the temporary folders of dead processes; a live process holds a lock on its folder."""
    for place in folder.glob(".*.ome.zarr.*part"):
        with suppress(OSError):
            lock = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(lock)


def _write_image(readers: Sequence[Any], image: ImageInfo, place: Path, progress: _Progress) -> None:
    """Write metadata and pixels of one image; an error of reading is raised as a fault that names the image."""
    level = zarr_layout.write_image(place, image)
    dtype = np.dtype(zarr_layout.DTYPES[image.pixel_type])
    todo = zarr_layout.regions(image.shape, dtype.itemsize, LARGEST_READ_BYTES, PLANE_LIMIT_PIXELS)
    with translate_errors(f"read image {image.id}"), ExitStack() as stack:
        stores: queue.SimpleQueue[Any] = queue.SimpleQueue()
        wanted = min(
            len(readers),
            sum(1 for _ in zarr_layout.regions(image.shape, dtype.itemsize, LARGEST_READ_BYTES, PLANE_LIMIT_PIXELS)),
        )
        for reader in readers[:wanted]:
            stores.put(stack.enter_context(pixels_store(reader, image.pixels_id)))

        def move(region: zarr_layout.Region) -> int:
            store = stores.get()
            try:
                raw = _read(store, region, image)
            finally:
                stores.put(store)
            level[
                region.t, region.c, region.z, region.y : region.y + region.height, region.x : region.x + region.width
            ] = raw
            return int(raw.nbytes)

        for count in _in_parallel(move, todo, wanted):
            progress.add(count, f"reading image {image.id}")


def read_pixels(session: OmeroSession, image: ImageInfo) -> np.ndarray[Any, Any]:
    """All pixels of an image, TCZYX, in the byte order of this machine."""
    dtype = np.dtype(zarr_layout.DTYPES[image.pixel_type])
    values = np.empty(image.shape, dtype)
    (reader,) = session.data_connections(1)
    with translate_errors(f"read image {image.id}"), pixels_store(reader, image.pixels_id) as store:
        for region in zarr_layout.regions(image.shape, dtype.itemsize, LARGEST_READ_BYTES, PLANE_LIMIT_PIXELS):
            rows, columns = slice(region.y, region.y + region.height), slice(region.x, region.x + region.width)
            values[region.t, region.c, region.z, rows, columns] = _read(store, region, image)
    return values


def _read(store: Any, region: zarr_layout.Region, image: ImageInfo) -> np.ndarray[Any, Any]:
    """Read one region and convert it to the byte order of this machine (OMERO sends big-endian)."""
    if image.pixel_type == "bit":
        return _read_bits(store, region, image)
    if region.whole(image.shape):
        data = store.getPlane(region.z, region.c, region.t)
    else:
        data = store.getTile(region.z, region.c, region.t, region.x, region.y, region.width, region.height)
    dtype = np.dtype(zarr_layout.DTYPES[image.pixel_type])
    raw = np.frombuffer(data, dtype.newbyteorder(">")).reshape(region.height, region.width)
    return raw.astype(dtype, copy=False)


def _read_bits(store: Any, region: zarr_layout.Region, image: ImageInfo) -> np.ndarray[Any, Any]:
    """A bit image has eight pixels per byte, most significant bit first; rows are not padded."""
    height, width = image.shape[3:]
    packed = np.frombuffer(store.getPlane(region.z, region.c, region.t), np.uint8)
    plane = np.unpackbits(packed, count=height * width).reshape(height, width)
    return plane[region.y : region.y + region.height, region.x : region.x + region.width]


def _in_parallel(
    move: Callable[[zarr_layout.Region], int], todo: Iterator[zarr_layout.Region], width: int
) -> Iterator[int]:
    """Yield the results of ``move`` when they are ready, at most ``width`` + 1 at a time; the first error stops all."""
    stop = threading.Event()

    def guarded(region: zarr_layout.Region) -> int:
        return 0 if stop.is_set() else move(region)

    with ThreadPoolExecutor(width, "pixels") as pool:
        running: set[Future[int]] = set()
        try:
            for region in todo:
                running.add(pool.submit(guarded, region))
                if len(running) > width:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            stop.set()
