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

from biomeroworker.manifest import PhysicalSize

VERSION = "0.4"
VERSIONS = ("0.4", "0.5")
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
    version: str = VERSION,
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
    version
        Of OME-Zarr, one of `VERSIONS`.
    """
    if version not in VERSIONS:
        raise ValueError(f"OME-Zarr {version} is not one of {', '.join(VERSIONS)}")
    old = version == "0.4"
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3)
    found = attributes(name=name, shape=shape, pixel_size=pixel_size or {}, channels=channels, colors=colors)
    group.attrs.update(found if old else {"ome": in_version(found, version)})
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=(1, 1, 1, min(TILE, shape[3]), min(TILE, shape[4])),
        compressors=COMPRESSOR if old else BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        chunk_key_encoding={"name": "v2", "separator": "/"} if old else None,
        dimension_names=None if old else tuple("tczyx"),
        fill_value=0,
    )


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
    array = create_image(
        path,
        name=name,
        shape=(t, c, z, y, x),
        dtype=str(pixels.dtype),
        pixel_size=pixel_size,
        channels=channels,
        version=version,
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


def in_version(found: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Metadata of 0.4 as a later version has them: the version stands once, above all, and no longer in each part."""
    parts = dict(found)
    parts["multiscales"] = [
        {key: value for key, value in one.items() if key != "version"} for one in parts["multiscales"]
    ]
    if "omero" in parts:
        parts["omero"] = {key: value for key, value in parts["omero"].items() if key != "version"}
    return {"version": version, **parts}
