"""Write OME-Zarr 0.4, the format of all inputs of a run.

Images are always five-dimensional, TCZYX, with one resolution level: workflows read full resolution, and a pyramid
would only be more bytes to transfer. Chunks are tiles of one plane. Metadata are validated by ome-zarr-models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numcodecs import Blosc

from biomeroworker.domain.manifest import PhysicalSize

if TYPE_CHECKING:
    from pydantic import BaseModel

# zarr and ome-zarr-models are imported in functions: together they take a second, and a script that only submits a run
# does not need them.

VERSION: Final = "0.4"
#: Width and height of a chunk in pixels. 1024² of 16 bit are 2 MiB: few files on the cluster, and little memory.
TILE_PIXELS = 1024
#: Fast, and microscopy pixels shrink by a third to a half: less to transfer, and less on the cluster's disk.
COMPRESSOR = Blosc(cname="lz4", clevel=3, shuffle=Blosc.SHUFFLE)


class Level:
    """The pixels of an image that is written tile by tile, by any number of threads.

    zarr-python creates the array. The chunks are written here, because zarr-python needs twice the processor time that
    their compression needs. A tile of zeros is not written, because a missing chunk means zeros.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int, int], dtype: np.dtype[Any]) -> None:
        self.folder, self.shape, self.dtype = folder, shape, dtype
        self.tile = min(TILE_PIXELS, shape[3]), min(TILE_PIXELS, shape[4])
        self._folders: set[Path] = set()

    def __setitem__(self, where: Any, pixels: np.ndarray[Any, Any]) -> None:
        """Write a plane (``level[t, c, z]``), whole tiles of one (``level[t, c, z, y0:y1, x0:x1]``), or all pixels.

        Raises
        ------
        ValueError
            The region does not consist of whole tiles, or the pixels have another shape.
        """
        if where is Ellipsis:
            if pixels.shape != self.shape:
                raise ValueError(f"pixels of shape {pixels.shape} for an image of {self.shape}")
            for index in np.ndindex(self.shape[:3]):
                self[index] = pixels[index]
            return
        t, c, z, *parts = where
        rows, columns = parts or (slice(None), slice(None))
        top, bottom, _ = rows.indices(self.shape[3])
        left, right, _ = columns.indices(self.shape[4])
        if pixels.shape != (bottom - top, right - left):
            raise ValueError(f"pixels of shape {pixels.shape} for {bottom - top} x {right - left}")
        high, wide = self.tile
        if (
            top % high
            or left % wide
            or (bottom % high and bottom < self.shape[3])
            or (right % wide and right < self.shape[4])
        ):
            raise ValueError(
                f"rows {top} to {bottom}, columns {left} to {right} are not whole tiles of {high} x {wide}"
            )
        for y in range(top, bottom, high):
            folder = self.folder / f"{t}/{c}/{z}/{y // high}"
            for x in range(left, right, wide):
                self._write(folder, x // wide, pixels[y - top : y - top + high, x - left : x - left + wide])

    def _write(self, folder: Path, column: int, pixels: np.ndarray[Any, Any]) -> None:
        if not pixels.any():
            return
        if pixels.shape == self.tile:
            tile = np.ascontiguousarray(pixels, self.dtype)
        else:  # chunks at the edge are filled with zeros
            tile = np.zeros(self.tile, self.dtype)
            tile[: pixels.shape[0], : pixels.shape[1]] = pixels
        if folder not in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        (folder / str(column)).write_bytes(COMPRESSOR.encode(tile))


def create_image(
    path: Path,
    *,
    name: str,
    shape: tuple[int, int, int, int, int],
    dtype: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    omero: Mapping[str, Any] | None = None,
) -> Level:
    """Create an image without pixels; returns its only level, to be filled (``level[t, c, z] = plane``).

    Parameters
    ----------
    shape
        TCZYX, in pixels.
    dtype
        A numpy name (``uint16``); chunks are little-endian whatever byte order it has.
    omero
        How to display the channels (NGFF 0.4 § "omero" metadata), if known.
    """
    from ome_zarr_models.v04.image import ImageAttrs
    from ome_zarr_models.v04.omero import Omero

    kind = np.dtype(dtype).newbyteorder("<")
    described = ImageAttrs(
        multiscales=[_multiscale(name, pixel_size or {})], omero=Omero.model_validate(omero) if omero else None
    )
    create_group(path, described).create_array(
        "0",
        shape=shape,
        dtype=kind,
        chunks=(1, 1, 1, min(TILE_PIXELS, shape[3]), min(TILE_PIXELS, shape[4])),
        compressors=COMPRESSOR,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        fill_value=0,
    )
    return Level(path / "0", shape, kind)


def write_image(
    path: Path,
    pixels: np.ndarray[Any, Any],
    *,
    name: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
) -> None:
    """Write an image from TCZYX pixels in memory."""
    t, c, z, y, x = pixels.shape
    level = create_image(
        path,
        name=name,
        shape=(t, c, z, y, x),
        dtype=str(pixels.dtype),
        pixel_size=pixel_size,
        omero=named_channels(name, channels) if channels else None,
    )
    level[...] = pixels


def named_channels(name: str, channels: Sequence[str]) -> dict[str, Any]:
    """The ``omero`` metadata of an image of which only the names of channels are known."""
    window = {"min": 0, "max": 65535, "start": 0, "end": 65535}
    return {
        "version": VERSION,
        "name": name,
        "channels": [{"label": label, "color": "FFFFFF", "active": True, "window": window} for label in channels],
    }


def create_group(path: Path, attributes: BaseModel | None = None) -> Any:
    """Create a Zarr (format 2) group with these metadata; an existing one is removed."""
    import zarr

    found = attributes.model_dump(mode="json", by_alias=True, exclude_none=True) if attributes else {}
    return zarr.create_group(store=path, zarr_format=2, attributes=found, overwrite=True)


def _multiscale(name: str, pixel_size: Mapping[Any, PhysicalSize]) -> Any:
    """The ``multiscales`` metadata of one image (OME-NGFF 0.4 § multiscales)."""
    from ome_zarr_models.v04.axes import Axis
    from ome_zarr_models.v04.multiscales import Dataset, Multiscale

    axes = [Axis(name="t", type="time"), Axis(name="c", type="channel")]
    scale = [1.0, 1.0]
    for axis in "zyx":
        size = pixel_size.get(axis)
        axes.append(Axis(name=axis, type="space", unit=size.unit if size else None))
        scale.append(size.value if size else 1.0)
    dataset = Dataset.build(path="0", scale=scale, translation=None)
    return Multiscale(version=VERSION, name=name, axes=axes, datasets=(dataset,))
