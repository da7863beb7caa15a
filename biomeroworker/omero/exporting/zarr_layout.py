"""The layout of OMERO's images and plates in OME-Zarr.

Display ranges of channels, the HCS layout of plates (https://ngff.openmicroscopy.org/0.4/ §§ plate, well), pixel
types, and the division of an image into reads that never share a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biomeroworker.imaging import ome_zarr
from biomeroworker.omero.exporting.describe import ChannelInfo, ImageInfo, PlateInfo

if TYPE_CHECKING:
    from ome_zarr_models.v04.hcs import HCSAttrs
    from ome_zarr_models.v04.well import WellAttrs

#: OMERO's names of pixel types, and numpy's. A bit image is exported with one byte per pixel.
DTYPES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "float": "float32",
    "double": "float64",
    "bit": "uint8",
}


def write_image(path: Path, image: ImageInfo) -> ome_zarr.Level:
    """Lay out an image without pixels; returns its array."""
    return ome_zarr.create_image(
        path,
        name=image.name,
        shape=image.shape,
        dtype=DTYPES[image.pixel_type],
        pixel_size=image.pixel_size,
        omero=omero_attributes(image),
    )


def omero_attributes(image: ImageInfo) -> dict[str, Any]:
    """The ``omero`` metadata: how to show the image (NGFF 0.4 § "omero" metadata)."""
    return {
        "id": image.id,
        "name": image.name,
        "version": ome_zarr.VERSION,
        "channels": [_channel(channel, image.pixel_type) for channel in _channels(image)],
        "rdefs": {"defaultT": 0, "defaultZ": image.shape[2] // 2, "model": "color"},
    }


def _channels(image: ImageInfo) -> tuple[ChannelInfo, ...]:
    """One description for each channel of the shape; the server may have fewer or more."""
    known = image.channels[: image.shape[1]]
    return known + tuple(ChannelInfo(str(number)) for number in range(len(known), image.shape[1]))


def _channel(channel: ChannelInfo, pixel_type: str) -> dict[str, Any]:
    low, high = limits(pixel_type)
    start, end = channel.range or (low, high)
    return {
        "label": channel.name,
        "color": channel.color,
        "active": True,
        "coefficient": 1,
        "family": "linear",
        "inverted": False,
        "window": {"min": min(low, start), "max": max(high, end), "start": start, "end": end},
    }


def limits(pixel_type: str) -> tuple[float, float]:
    """The range of values of a pixel type; 0 to 1 for floats."""
    if pixel_type == "bit":
        return 0.0, 1.0
    dtype = np.dtype(DTYPES[pixel_type])
    if dtype.kind == "f":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def row_name(row: int) -> str:
    """The letters of a row, counted from 0, as spreadsheets name columns: A … Z, AA …"""
    name = ""
    row += 1
    while row:
        row, rest = divmod(row - 1, 26)
        name = chr(65 + rest) + name
    return name


def field_path(row: int, column: int, index: int) -> str:
    """The path of a field in its plate: ``A/1/0``."""
    return f"{row_name(row)}/{column + 1}/{index}"


def plate_attributes(plate: PlateInfo) -> HCSAttrs:
    """The metadata of a plate. Rows and columns are those in use, in order."""
    from ome_zarr_models.v04 import plate as models
    from ome_zarr_models.v04.hcs import HCSAttrs

    rows = sorted({field.row for field in plate.fields})
    columns = sorted({field.column for field in plate.fields})
    wells = sorted({(field.row, field.column) for field in plate.fields})
    acquisitions = [models.Acquisition(id=number, name=name) for number, name in plate.acquisitions]
    return HCSAttrs(
        plate=models.Plate(
            version=ome_zarr.VERSION,
            name=plate.name,
            field_count=max(field.index for field in plate.fields) + 1,
            rows=[models.Row(name=row_name(row)) for row in rows],
            columns=[models.Column(name=str(column + 1)) for column in columns],
            wells=[
                models.WellInPlate(
                    path=f"{row_name(row)}/{column + 1}",
                    rowIndex=rows.index(row),
                    columnIndex=columns.index(column),
                )
                for row, column in wells
            ],
            acquisitions=acquisitions or None,
        )
    )


def well_attributes(plate: PlateInfo, row: int, column: int) -> WellAttrs:
    """The metadata of one well."""
    from ome_zarr_models.v04.well import WellAttrs
    from ome_zarr_models.v04.well_types import WellImage, WellMeta

    images = [
        WellImage(path=str(field.index), acquisition=field.acquisition)
        for field in plate.fields
        if (field.row, field.column) == (row, column)
    ]
    return WellAttrs(well=WellMeta(version=ome_zarr.VERSION, images=images))


@dataclass(frozen=True)
class Region:
    """A rectangle of one plane, aligned to chunks: the unit of reading and writing."""

    t: int
    c: int
    z: int
    y: int
    x: int
    height: int
    width: int

    def whole(self, shape: tuple[int, ...]) -> bool:
        """Whether it is the whole plane."""
        return (self.height, self.width) == (shape[3], shape[4])


def regions(shape: tuple[int, ...], itemsize: int, largest: int, plane_limit: int) -> Iterator[Region]:
    """Divide an image: into planes, if a plane has at most ``largest`` bytes and ``plane_limit`` pixels a side.

    Larger planes are divided into squares of whole chunks, each at most ``largest`` bytes. So no two regions share a
    chunk, and the server reads tiles of a pyramid and not planes that do not fit into its memory.
    """
    t_count, c_count, z_count, height, width = shape
    if height * width * itemsize <= largest and max(height, width) <= plane_limit:
        step_y, step_x = height, width
    else:
        side = max(
            ome_zarr.TILE_PIXELS, int((largest / itemsize) ** 0.5) // ome_zarr.TILE_PIXELS * ome_zarr.TILE_PIXELS
        )
        step_y, step_x = side, side
    for t in range(t_count):
        for c in range(c_count):
            for z in range(z_count):
                for y in range(0, height, step_y):
                    for x in range(0, width, step_x):
                        yield Region(t, c, z, y, x, min(step_y, height - y), min(step_x, width - x))
