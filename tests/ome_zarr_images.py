"""OME-Zarr of other versions than the one that the product writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from ome_zarr_models.v05.image import ImageAttrs
from zarr.codecs import BloscCodec

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.imaging import ome_zarr

VERSIONS = ("0.4", "0.5")


def write_image(
    path: Path,
    pixels: np.ndarray[Any, Any],
    *,
    name: str,
    version: str,
    pixel_size: Mapping[Any, PhysicalSize] | None = None,
    channels: Sequence[str] = (),
) -> None:
    """Write TCZYX pixels as OME-Zarr of a version."""
    if version == "0.4":
        ome_zarr.write_image(path, pixels, name=name, pixel_size=pixel_size, channels=channels)
        return
    sizes = pixel_size or {}
    spatial = [
        {"name": axis, "type": "space", **({"unit": sizes[axis].unit} if axis in sizes else {})} for axis in "zyx"
    ]
    scale = [1.0, 1.0, *(sizes[axis].value if axis in sizes else 1.0 for axis in "zyx")]
    found: dict[str, Any] = {
        "version": version,
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *spatial],
                "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
            }
        ],
    }
    if channels:
        window = {"min": 0, "max": 65535, "start": 0, "end": 65535}
        found["omero"] = {"channels": [{"label": label, "color": "FFFFFF", "window": window} for label in channels]}
    ImageAttrs.model_validate(found)
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["ome"] = found
    array = group.create_array(
        "0",
        shape=pixels.shape,
        dtype=pixels.dtype,
        chunks=(1, 1, 1, min(1024, pixels.shape[3]), min(1024, pixels.shape[4])),
        compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),
        dimension_names=tuple("tczyx"),
        fill_value=0,
    )
    array[...] = pixels
