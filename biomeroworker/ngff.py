"""Write OME-Zarr 0.4 (OME-NGFF specification 0.4, zarr format 2): what every input of a run is shipped as.

Images are always five-dimensional, TCZYX, one resolution level: workflows read full resolution, and a pyramid would
only be bytes on the wire. Chunks are tiles of one plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

from biomeroworker.manifest import PhysicalSize

VERSION = "0.4"
#: Pixels of a chunk's side. 1024² of 16 bit is 2 MiB: few files on the cluster, and still no plane in memory twice.
TILE = 1024
#: Fast and worth it: microscopy pixels shrink by a third to a half, so both the wire and the cluster's disk gain.
COMPRESSOR = Blosc(cname="lz4", clevel=3, shuffle=Blosc.SHUFFLE)


def create_image(
    path: Path,
    *,
    name: str,
    shape: tuple[int, int, int, int, int],
    dtype: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
    colors: Sequence[str] = (),
) -> Any:
    """Make an image without pixels; returns its zarr array, to be written plane by plane (``array[t, c, z] = plane``).

    Parameters
    ----------
    shape
        TCZYX, in pixels.
    dtype
        A numpy name (``uint16``).
    channels, colors
        One entry a channel (``RRGGBB`` for colors), or none.
    """
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs.update(
        attributes(name=name, shape=shape, pixel_size=pixel_size or {}, channels=channels, colors=colors)
    )
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=(1, 1, 1, min(TILE, shape[3]), min(TILE, shape[4])),
        compressors=COMPRESSOR,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        fill_value=0,
    )


def write_image(
    path: Path,
    pixels: np.ndarray[Any, Any],
    *,
    name: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
) -> None:
    """Write an image whose TCZYX pixels are at hand."""
    t, c, z, y, x = pixels.shape
    array = create_image(
        path, name=name, shape=(t, c, z, y, x), dtype=str(pixels.dtype), pixel_size=pixel_size, channels=channels
    )
    array[...] = pixels


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
