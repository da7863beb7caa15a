"""Images are sent as OME-Zarr that zarr-python can read, whichever code wrote the chunks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image import Image
from ome_zarr_models.v04.multiscales import Dataset
from pydantic import ValidationError

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.imaging import ome_zarr

SIZES: dict[Any, PhysicalSize] = {"x": PhysicalSize(value=0.325), "z": PhysicalSize(value=1.5)}
PIXELS = np.arange(2 * 3 * 4 * 17 * 23, dtype="uint16").reshape(2, 3, 4, 17, 23)


def test_zarr_python_reads_what_is_sent(tmp_path: Path) -> None:
    ome_zarr.write_image(tmp_path / "a.zarr", PIXELS, name="a", pixel_size=SIZES, channels=("r", "g", "b"))
    group: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group.metadata.zarr_format == 2
    np.testing.assert_array_equal(np.asarray(group["0"]), PIXELS)
    assert [one["label"] for one in group.attrs["omero"]["channels"]] == ["r", "g", "b"]
    assert group.attrs["multiscales"][0]["version"] == "0.4"


def test_what_is_sent_is_valid_ome_zarr(tmp_path: Path) -> None:
    ome_zarr.write_image(tmp_path / "a.zarr", PIXELS, name="a", pixel_size=SIZES, channels=("r", "g", "b"))
    image = Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    (scale,) = image.attributes.multiscales
    assert [(axis.name, axis.type, axis.unit) for axis in scale.axes] == [
        ("t", "time", None), ("c", "channel", None), ("z", "space", "micrometer"), ("y", "space", None),
        ("x", "space", "micrometer"),
    ]  # fmt: skip
    assert scale.datasets == (Dataset.build(path="0", scale=[1, 1, 1.5, 1, 0.325], translation=None),)


def test_metadata_that_break_the_specification_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="color"):
        ome_zarr.create_image(
            tmp_path / "a.zarr", name="a", shape=PIXELS.shape, dtype="uint16",
            omero={"channels": [{"color": "blue", "window": {"min": 0, "max": 1, "start": 0, "end": 1}}]},
        )  # fmt: skip
    assert not (tmp_path / "a.zarr").exists()


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ome_zarr, "TILE_PIXELS", 8)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64", "bool"]
)
@pytest.mark.parametrize("height", [8, 17, 3])
def test_planes_of_any_byte_order_are_written_by_many_threads(tmp_path: Path, dtype: str, height: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 2 if dtype == "bool" else 100, (2, 2, 3, height, 23))
    big = pixels.astype(np.dtype(dtype).newbyteorder(">"))
    level = ome_zarr.create_image(tmp_path / "a.zarr", name="a", shape=(2, 2, 3, height, 23), dtype=dtype)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: level.__setitem__(index, big[index]), np.ndindex(2, 2, 3)))
    stored = zarr.open_array(tmp_path / "a.zarr/0", mode="r")
    assert stored.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(stored[...], big)


@pytest.mark.usefixtures("small_tiles")
def test_a_plane_is_written_in_regions_of_whole_tiles(tmp_path: Path) -> None:
    level = ome_zarr.create_image(tmp_path / "a.zarr", name="a", shape=PIXELS.shape, dtype="uint16")
    for rows in (slice(0, 16), slice(16, 17)):
        for columns in (slice(0, 8), slice(8, 23)):
            level[1, 2, 3, rows, columns] = PIXELS[1, 2, 3, rows, columns]
    stored: Any = zarr.open_array(tmp_path / "a.zarr/0", mode="r")
    np.testing.assert_array_equal(stored[1, 2, 3], PIXELS[1, 2, 3])
    assert not stored[0].any()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("rows", "columns", "shape"),
    [
        (slice(0, 7), slice(0, 8), (7, 8)),
        (slice(4, 8), slice(0, 8), (4, 8)),
        (slice(0, 8), slice(0, 20), (8, 20)),
        (slice(0, 8), slice(0, 8), (8, 7)),
    ],
)
def test_a_region_that_would_share_a_chunk_with_another_is_refused(
    tmp_path: Path, rows: slice, columns: slice, shape: tuple[int, int]
) -> None:
    level = ome_zarr.create_image(tmp_path / "a.zarr", name="a", shape=PIXELS.shape, dtype="uint16")
    with pytest.raises(ValueError, match=r"whole tiles|pixels of shape"):
        level[0, 0, 0, rows, columns] = np.ones(shape, "uint16")
    assert not list((tmp_path / "a.zarr/0").glob("0*"))


def test_all_pixels_have_to_be_of_the_images_shape(tmp_path: Path) -> None:
    level = ome_zarr.create_image(tmp_path / "a.zarr", name="a", shape=PIXELS.shape, dtype="uint16")
    with pytest.raises(ValueError, match="for an image of"):
        level[...] = PIXELS[:1]


def test_tiles_of_zeros_cost_no_file(tmp_path: Path) -> None:
    empty = np.zeros_like(PIXELS)
    ome_zarr.write_image(tmp_path / "a.zarr", empty, name="a")
    assert {path.name for path in (tmp_path / "a.zarr/0").iterdir()} <= {".zarray", ".zattrs", "zarr.json"}
    np.testing.assert_array_equal(np.asarray(zarr.open_array(tmp_path / "a.zarr/0", mode="r")), empty)


def test_big_endian_pixels_are_stored_as_their_values(tmp_path: Path) -> None:
    ome_zarr.write_image(tmp_path / "a.zarr", PIXELS.astype(">u2"), name="a")
    np.testing.assert_array_equal(np.asarray(zarr.open_array(tmp_path / "a.zarr/0", mode="r")), PIXELS)
