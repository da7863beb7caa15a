"""Write OME-Zarr: what every input of a run is shipped as.

0.4 (zarr format 2) if nothing else is asked for; 0.5 (zarr format 3) for workflows that read only that. Images are
always five-dimensional, TCZYX, one resolution level: workflows read full resolution, and a pyramid would only be bytes
on the wire. Chunks are tiles of one plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec

from biomeroworker.domain.manifest import PhysicalSize

VERSION = "0.4"
VERSIONS = ("0.4", "0.5")
#: Pixels of a chunk's side. 1024² of 16 bit is 2 MiB: few files on the cluster, and still no plane in memory twice.
TILE_PIXELS = 1024
#: Fast and worth it: microscopy pixels shrink by a third to a half, so both the wire and the cluster's disk gain.
COMPRESSOR = Blosc(cname="lz4", clevel=3, shuffle=Blosc.SHUFFLE)


class Level:
    """The pixels of an image that is being written, tile by tile; any number of threads may do so.

    zarr-python lays the array out; the chunks are written here, because that takes it twice the processor time that
    packing them takes. A tile of zeros is not written: that is what a missing chunk means.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int, int, int], dtype: np.dtype[Any]) -> None:
        self.folder, self.shape, self.dtype = folder, shape, dtype
        self.tile = min(TILE_PIXELS, shape[3]), min(TILE_PIXELS, shape[4])
        self._made: set[Path] = set()

    def __setitem__(self, where: Any, pixels: np.ndarray[Any, Any]) -> None:
        """Write a plane (``level[t, c, z]``), whole tiles of one (``level[t, c, z, y0:y1, x0:x1]``), or all pixels.

        Raises
        ------
        ValueError
            The region is not made of whole tiles, or the pixels are of another shape.
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
        else:  # at the edge chunks are filled up
            tile = np.zeros(self.tile, self.dtype)
            tile[: pixels.shape[0], : pixels.shape[1]] = pixels
        if folder not in self._made:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        (folder / str(column)).write_bytes(COMPRESSOR.encode(tile))


def create_image(
    path: Path,
    *,
    name: str,
    shape: tuple[int, int, int, int, int],
    dtype: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
    colors: Sequence[str] = (),
    version: str = VERSION,
) -> Level:
    """Make an image without pixels; returns its one level, to be filled (``level[t, c, z] = plane``).

    Parameters
    ----------
    shape
        TCZYX, in pixels.
    dtype
        A numpy name (``uint16``); chunks are little-endian whatever byte order it has.
    channels, colors
        One entry a channel (``RRGGBB`` for colors), or none.
    version
        Of OME-Zarr, one of `VERSIONS_INTERVAL_SECONDS`.
    """
    if version not in VERSIONS:
        raise ValueError(f"OME-Zarr {version} is not one of {', '.join(VERSIONS)}")
    old = version == "0.4"
    kind = np.dtype(dtype).newbyteorder("<")
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3)
    found = attributes(name=name, shape=shape, pixel_size=pixel_size or {}, channels=channels, colors=colors)
    group.attrs.update(found if old else {"ome": in_version(found, version)})
    group.create_array(
        "0",
        shape=shape,
        dtype=kind,
        chunks=(1, 1, 1, min(TILE_PIXELS, shape[3]), min(TILE_PIXELS, shape[4])),
        compressors=COMPRESSOR if old else BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        chunk_key_encoding={"name": "v2", "separator": "/"} if old else None,
        dimension_names=None if old else tuple("tczyx"),
        fill_value=0,
    )
    return Level(path / "0" if old else path / "0" / "c", shape, kind)


def write_image(
    path: Path,
    pixels: np.ndarray[Any, Any],
    *,
    name: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
    version: str = VERSION,
) -> None:
    """Write an image whose TCZYX pixels are at hand."""
    t, c, z, y, x = pixels.shape
    level = create_image(
        path,
        name=name,
        shape=(t, c, z, y, x),
        dtype=str(pixels.dtype),
        pixel_size=pixel_size,
        channels=channels,
        version=version,
    )
    level[...] = pixels


def attributes(
    *,
    name: str,
    shape: tuple[int, int, int, int, int],
    pixel_size: Mapping[Any, PhysicalSize],
    channels: Sequence[str] = (),
    colors: Sequence[str] = (),
) -> dict[str, Any]:
    """The ``multiscales`` and ``omero`` metadata of one image, per OME-NGFF 0.4."""
    axes: list[dict[str, str]] = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    for axis in "zyx":
        known = pixel_size.get(axis)
        axes.append({"name": axis, "type": "space", **({"unit": known.unit} if known else {})})
    scale = [1.0, 1.0, *(pixel_size[axis].value if axis in pixel_size else 1.0 for axis in "zyx")]
    found: dict[str, Any] = {
        "multiscales": [
            {
                "version": VERSION,
                "name": name,
                "axes": axes,
                "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            }
        ]
    }
    if channels:
        found["omero"] = {
            "version": VERSION,
            "name": name,
            "channels": [
                {
                    "label": label,
                    "color": colors[index] if index < len(colors) else "FFFFFF",
                    "active": True,
                    "window": {"min": 0, "max": 65535, "start": 0, "end": 65535},
                }
                for index, label in enumerate(channels)
            ],
        }
    return found


def in_version(found: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Metadata of 0.4 as a later version has them: the version stands once, above all, and no longer in each part."""
    parts = dict(found)
    parts["multiscales"] = [
        {key: value for key, value in one.items() if key != "version"} for one in parts["multiscales"]
    ]
    if "omero" in parts:
        parts["omero"] = {key: value for key, value in parts["omero"].items() if key != "version"}
    return {"version": version, **parts}
