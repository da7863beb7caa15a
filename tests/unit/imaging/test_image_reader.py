"""Results are read with their metadata, and an image that was sent is read back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.errors import Permanent
from biomeroworker.imaging import ome_zarr, reader
from biomeroworker.remote import convert
from tests.ome_zarr_images import VERSIONS, write_image

SIZES: dict[Any, PhysicalSize] = {
    "x": PhysicalSize(value=0.325),
    "y": PhysicalSize(value=325.0, unit="nanometer"),
    "z": PhysicalSize(value=1.5, unit="micrometer"),
}
PIXELS = np.arange(2 * 3 * 4 * 17 * 23, dtype="uint16").reshape(2, 3, 4, 17, 23)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_image_that_went_to_the_cluster_and_through_the_converter_is_the_same(tmp_path: Path, version: str) -> None:
    source = tmp_path / "in/image-1.ome.zarr"
    write_image(source, PIXELS, name="a", pixel_size=SIZES, channels=("DAPI", "µ & GFP", "3"), version=version)
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "tiff")]) == 0
    for file in (source, tmp_path / "tiff/image-1.tif"):
        found = reader.read(file)
        assert (found.axes, found.values.dtype) == ("TCZYX", np.uint16)
        np.testing.assert_array_equal(found.values, PIXELS)
        assert found.pixel_size == SIZES
        assert found.channels == ("DAPI", "µ & GFP", "3")


@pytest.mark.parametrize("byteorder", "<>")
def test_a_label_image_of_many_pages_with_the_sizes_of_its_own(tmp_path: Path, byteorder: Any) -> None:
    labels = np.random.default_rng(1).integers(0, 70_000, (300, 20, 30)).astype("uint32")
    metadata = {"axes": "ZYX", "PhysicalSizeX": 2, "PhysicalSizeXUnit": "mm", "PhysicalSizeZ": 0.5}
    tifffile.imwrite(
        tmp_path / "m.ome.tif", labels, byteorder=byteorder, photometric="minisblack", compression="zlib",
        metadata=metadata,
    )  # fmt: skip
    found = reader.read(tmp_path / "m.ome.tif")
    assert found.axes == "ZYX"
    np.testing.assert_array_equal(found.values, labels)
    assert found.pixel_size == {"x": PhysicalSize(value=2, unit="millimeter"), "z": PhysicalSize(value=0.5)}
    assert found.channels == ()


def test_pages_without_a_word_are_left_as_they_are(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", PIXELS[0, 0], photometric="minisblack", metadata=None)
    found = reader.read(tmp_path / "m.tif")
    assert (found.axes, found.values.shape) in {("QYX", (4, 17, 23)), ("IYX", (4, 17, 23))}
    assert found.pixel_size == {}


@pytest.mark.parametrize(("unit", "name"), [("um", "micrometer"), ("micron", "micrometer"), ("nm", "nanometer")])
def test_imagejs_sizes_are_read_with_their_unit(tmp_path: Path, unit: str, name: str) -> None:
    tifffile.imwrite(
        tmp_path / "j.tif", PIXELS, imagej=True, resolution=(4, 2),
        metadata={"axes": "TZCYX", "spacing": 3.5, "unit": unit},
    )  # fmt: skip
    found = reader.read(tmp_path / "j.tif")
    assert found.axes == "TZCYX"
    sizes = {"x": 0.25, "y": 0.5, "z": 3.5}
    assert found.pixel_size == {axis: PhysicalSize(value=value, unit=name) for axis, value in sizes.items()}


@pytest.mark.parametrize("unit", ["pixel", "", "furlong"])
def test_lengths_that_are_none_are_not_made_into_some(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(tmp_path / "j.tif", PIXELS[0, 0], imagej=True, resolution=(4, 2), metadata={"unit": unit})
    assert reader.read(tmp_path / "j.tif").pixel_size == {}


@pytest.mark.parametrize(
    ("mode", "axes", "shape"), [("L", "YX", (5, 7)), ("RGB", "YXS", (5, 7, 3)), ("RGBA", "YXS", (5, 7, 4))]
)
def test_png(tmp_path: Path, mode: str, axes: str, shape: tuple[int, ...]) -> None:
    pixels = np.arange(np.prod(shape), dtype="uint8").reshape(shape)
    Image.fromarray(pixels, mode).save(tmp_path / "p.PNG", "PNG")
    found = reader.read(tmp_path / "p.PNG")
    assert found.axes == axes
    np.testing.assert_array_equal(found.values, pixels)


def test_a_png_of_16_bits_and_one_with_a_palette(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [65_535, 7]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(reader.read(tmp_path / "deep.png").values, deep)
    colours = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    colours.putpalette([10, 20, 30, 40, 50, 60])
    colours.save(tmp_path / "p.png")
    assert reader.read(tmp_path / "p.png").values.tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_a_label_image_inside_ome_zarr(tmp_path: Path) -> None:
    labels = PIXELS[0, 0, 0].astype("int64") + 2**40  # wider than any TIFF has
    group = zarr.open_group(tmp_path / "a.ome.zarr/labels/cells", mode="w", zarr_format=2)
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.25]}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.create_array("0", shape=labels.shape, dtype="int64", chunks=(8, 8))[...] = labels
    found = reader.read(tmp_path / "a.ome.zarr/labels/cells")
    assert found.axes == "YX"
    np.testing.assert_array_equal(found.values, labels)
    assert found.pixel_size == {"y": PhysicalSize(value=0.5), "x": PhysicalSize(value=0.25)}


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.ome.zarr"])
def test_what_is_broken_is_named(tmp_path: Path, name: str) -> None:
    if name.endswith("zarr"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"II*\0 and then nothing" if name == "a.tif" else b"\x89PNG\r\n\x1a\n")
    with pytest.raises(Permanent, match=f"^{name} cannot be read as "):
        reader.read(tmp_path / name)


def test_ome_xml_that_is_none_costs_the_sizes_and_not_the_pixels(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", PIXELS[0, 0, 0], photometric="minisblack", description="<OME><Image></OME>", metadata=None
    )
    found = reader.read(tmp_path / "m.tif")
    np.testing.assert_array_equal(found.values, PIXELS[0, 0, 0])
    assert found.pixel_size == {}


@pytest.mark.parametrize("name", ["m.tif", "m.ome.zarr"])
def test_an_image_is_described_without_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name.endswith("zarr"):
        ome_zarr.write_image(tmp_path / name, PIXELS, name="m", pixel_size=SIZES)
    else:
        tifffile.imwrite(tmp_path / name, PIXELS[0], ome=True, photometric="minisblack", metadata={"axes": "CZYX"})
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", None)
    monkeypatch.setattr(zarr.Array, "__getitem__", None)
    with reader.opened(tmp_path / name) as found:
        assert found.shape == (PIXELS.shape if name.endswith("zarr") else PIXELS.shape[1:])
        assert found.dtype == np.uint16
        with pytest.raises((TypeError, Permanent), match="not callable"):
            _ = found.values
