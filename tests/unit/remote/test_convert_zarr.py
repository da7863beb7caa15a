"""Pixels of all kinds of Zarr are in the TIFF: zarr-python writes, convert.py converts, tifffile reads."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
import zarr.codecs
from hypothesis import given, settings
from hypothesis import strategies as st

from biomeroworker.remote import convert

DTYPES = [
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bool",
    "complex64", "complex128",
]  # fmt: skip
STORED = {"int64": "int32", "uint64": "uint32", "float16": "float32", "bool": "uint8"}
SUBSETS = ["".join(axes) for count in range(1, 6) for axes in itertools.combinations("tczyx", count)]
IMAGES = [axes for axes in SUBSETS if axes.endswith("yx")]
FORMAT_2 = [
    None, numcodecs.Blosc("lz4", 5, 1), numcodecs.Blosc("zstd", 1, 2), numcodecs.Blosc("lz4hc", 1, 0),
    numcodecs.Zstd(1), numcodecs.GZip(1), numcodecs.Zlib(1), numcodecs.LZ4(), numcodecs.BZ2(1), numcodecs.LZMA(),
]  # fmt: skip
FORMAT_3: list[list[Any]] = [
    [], [zarr.codecs.BloscCodec(cname="lz4")], [zarr.codecs.ZstdCodec(level=1)], [zarr.codecs.GzipCodec(level=1)],
    [zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()],
    [zarr.codecs.BloscCodec(cname="zstd", shuffle="bitshuffle"), zarr.codecs.Crc32cCodec()],
]  # fmt: skip
UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "angstrom": "Å", None: None}


@st.composite
def stored_images(draw: st.DrawFn) -> dict[str, Any]:
    """How an image is stored: any axes, any type, any chunks, any codec of either format."""
    axes = draw(st.sampled_from(IMAGES))
    shape = tuple(draw(st.integers(1, 4 if axis in "tcz" else 23)) for axis in axes)
    chunks = tuple(draw(st.integers(1, size + 2)) for size in shape)
    found: dict[str, Any] = {
        "axes": axes, "shape": shape, "chunks": chunks, "dtype": draw(st.sampled_from(DTYPES)),
        "zarr_format": draw(st.sampled_from([2, 3])), "endian": draw(st.sampled_from("<>")),
        "fill": draw(st.sampled_from([0, 1, "nan"])), "gone": draw(st.integers(0, 3)), "seed": draw(st.integers(0, 99)),
        "units": {axis: draw(st.sampled_from(list(UNITS))) for axis in axes if axis in "zyx"},
        "scale": [draw(st.floats(1e-3, 1e3)) for _ in axes], "separator": draw(st.sampled_from("./")),
    }  # fmt: skip
    if found["zarr_format"] == 2:
        found["compressor"] = draw(st.sampled_from(FORMAT_2))
        found["order"] = draw(st.sampled_from("CF"))
        found["delta"] = draw(st.booleans()) and np.dtype(found["dtype"]).kind in "iu"
    else:
        found["compressors"] = draw(st.sampled_from(FORMAT_3))
        found["transposed"] = draw(st.permutations(range(len(axes)))) if draw(st.booleans()) else None
        if draw(st.booleans()):
            found["shards"] = tuple(size * draw(st.integers(1, 3)) for size in chunks)
    return found


def write(folder: Path, how: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Store the image; returns its pixels as they have to come back."""
    dtype = np.dtype(how["dtype"])
    values = np.random.default_rng(how["seed"]).integers(-100 if dtype.kind in "if" else 0, 120, how["shape"])
    pixels = (values > 60 if dtype.kind == "b" else values).astype(dtype)
    fill = dtype.type(how["fill"] if how["fill"] != "nan" or dtype.kind in "fc" else 1)
    two = how["zarr_format"] == 2
    scales = [{"type": "scale", "scale": how["scale"]}]
    metadata = {
        "multiscales": [{
            "axes": [{"name": axis, "unit": how["units"].get(axis)} for axis in how["axes"]],
            "datasets": [{"path": "deep/0", "coordinateTransformations": scales}],
        }]
    }  # fmt: skip
    group = zarr.open_group(folder, mode="w", zarr_format=how["zarr_format"])
    group.attrs.update(metadata if two else {"ome": {"version": "0.5", **metadata}})
    options: dict[str, Any] = {"chunks": how["chunks"], "fill_value": fill}
    if two:
        delta = numcodecs.Delta(dtype=dtype.newbyteorder(how["endian"]).str)
        options |= {
            "dtype": dtype.newbyteorder(how["endian"]), "compressors": how["compressor"], "order": how["order"],
            "filters": [delta] if how["delta"] else None,
            "chunk_key_encoding": {"name": "v2", "separator": how["separator"]},
        }  # fmt: skip
    else:
        order = how["transposed"]
        options |= {
            "dtype": dtype, "compressors": how["compressors"], "shards": how.get("shards"),
            "serializer": zarr.codecs.BytesCodec(endian="big" if how["endian"] == ">" else "little"),
            "filters": [zarr.codecs.TransposeCodec(order=tuple(order))] if order else None,
            "chunk_key_encoding": {"name": "default", "separator": how["separator"]},
        }  # fmt: skip
    array = group.create_array("deep/0", shape=how["shape"], **options)
    array[...] = pixels
    files = [
        file for file in (folder / "deep/0").rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr"))
    ]
    for file in sorted(files)[: how["gone"]]:
        file.unlink()
    return np.asarray(array[...])


@given(stored_images())
@settings(max_examples=50, deadline=None)
def test_pixels_and_sizes_are_preserved_for_all_encodings(how: dict[str, Any]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        expected = write(folder / "in/image-1.ome.zarr", how)
        assert convert.main([str(folder / "in"), str(folder / "tiff"), "--jobs", "2"]) == 0
        assert [file.name for file in (folder / "tiff").iterdir()] == ["image-1.tif"]
        with tifffile.TiffFile(folder / "tiff/image-1.tif") as tiff:
            series = tiff.series[0]
            axes, shape, values = series.get_axes(False), series.get_shape(False), series.asarray(squeeze=False)
            found = ElementTree.fromstring(tiff.ome_metadata or "").find(".//{*}Pixels")
            assert {page.aspage().samplesperpixel for page in tiff.pages} == {1}
            assert {page.aspage().photometric for page in tiff.pages} == {tifffile.PHOTOMETRIC.MINISBLACK}
    finally:
        shutil.rmtree(folder)
    assert values.dtype == STORED.get(how["dtype"], how["dtype"])
    present = [letter in how["axes"].upper() for letter in axes]
    assert all(size == 1 for size, keep in zip(shape, present, strict=True) if not keep)
    assert "".join(itertools.compress(axes, present)) == how["axes"].upper()
    np.testing.assert_array_equal(values.reshape(how["shape"]), expected)
    assert found is not None
    for axis, size in zip(how["axes"], how["scale"], strict=True):
        unit = UNITS[how["units"].get(axis)]
        assert found.get(f"PhysicalSize{axis.upper()}Unit") == unit
        assert found.get(f"PhysicalSize{axis.upper()}") == (None if unit is None else str(size))


@pytest.mark.parametrize(("shape", "chunks"), [((2, 7, 1), (1, 7, 3)), ((2, 1, 7), (2, 4, 7)), ((1, 5, 7), (1, 5, 4))])
@pytest.mark.parametrize("order", "CF")
def test_images_one_pixel_wide_or_high_are_converted(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "BAND_BYTES", 1)  # each chunk on its own, as it is with large ones
    pixels = write(tmp_path / "in/image-1.ome.zarr", {
        "axes": "zyx", "shape": shape, "chunks": chunks, "dtype": "uint16", "zarr_format": 2, "endian": "<", "fill": 0,
        "gone": 0, "seed": 1, "units": {}, "scale": [1, 1, 1], "separator": ".", "compressor": None, "order": order,
        "delta": False,
    })  # fmt: skip
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out/image-1.tif").reshape(shape), pixels)


@pytest.mark.parametrize("axes", [axes for axes in SUBSETS if not axes.endswith("yx")])
def test_unsupported_axes_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], axes: str) -> None:
    group = zarr.open_group(tmp_path / "in/image-1.ome.zarr", mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"axes": list(axes), "datasets": [{"path": "0"}]}]
    group.create_array("0", shape=(2,) * len(axes), dtype="uint8", chunks=(1,) * len(axes))
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "tiff")]) == 1
    assert f"image-1: axes {', '.join(axes.upper())} lack Y or X" in capsys.readouterr().err
    assert not list((tmp_path / "tiff").iterdir())


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("axes", ["cyx", "czyx", "tcyx", "tczyx", "zyx", "tyx"])
def test_channels_and_planes_never_become_colours(tmp_path: Path, axes: str, channels: int) -> None:
    shape = tuple({"y": 16, "x": 16}.get(axis, channels) for axis in axes)
    group = zarr.open_group(tmp_path / "in/image-1.ome.zarr", mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"axes": list(axes), "datasets": [{"path": "0"}]}]
    array = group.create_array("0", shape=shape, dtype="uint8", chunks=shape)
    array[...] = np.arange(np.prod(shape)).reshape(shape) % 251
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "tiff")]) == 0
    with tifffile.TiffFile(tmp_path / "tiff/image-1.tif") as tiff:
        assert tiff.series[0].axes == axes.upper()
        assert {page.aspage().photometric for page in tiff.pages} == {tifffile.PHOTOMETRIC.MINISBLACK}
        assert len(tiff.pages) == np.prod(shape[:-2])
        np.testing.assert_array_equal(tiff.asarray(), array[...])


def test_a_fill_value_in_hexadecimal_is_read_as_its_bits() -> None:
    assert np.isnan(convert._fill_value("0x7fc00000", np.dtype("float32")))
    assert convert._fill_value("0x3f800000", np.dtype("<f4")) == 1
