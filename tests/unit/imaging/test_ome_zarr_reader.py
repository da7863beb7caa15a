"""OME-Zarr of other programs is read although it breaks a rule; what cannot be read is named, and never guessed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zarr.codecs

from biomeroworker.domain import units
from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.errors import Permanent
from biomeroworker.imaging import reader
from biomeroworker.remote import convert

PIXELS = np.random.default_rng(1).integers(0, 60_000, (3, 16, 24)).astype("uint16")
SCALE = [{"type": "scale", "scale": [2.0, 0.5, 0.25]}]
SIZES = {"x": PhysicalSize(value=0.25), "y": PhysicalSize(value=0.5), "z": PhysicalSize(value=2)}


def axes(**changes: Any) -> list[dict[str, Any]]:
    """The axes of the image, with changes of each."""
    return [{"name": name, "type": "space", "unit": "micrometer", **changes} for name in "zyx"]


def make(folder: Path, zarr_format: int = 2, **more: Any) -> Path:
    """A valid image (OME-Zarr 0.4 or 0.5) of 3 × 16 × 24 pixels in chunks of 1 × 8 × 24."""
    multiscale = {"axes": axes(), "name": "a", "datasets": [{"path": "0", "coordinateTransformations": SCALE}]}
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)  # type: ignore[arg-type]
    if zarr_format == 2:
        group.attrs["multiscales"] = [{"version": "0.4", **multiscale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    array = group.create_array("0", shape=PIXELS.shape, dtype="uint16", **{"chunks": (1, 8, 24), **more})
    array[...] = PIXELS
    return folder


def edit(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_valid_image_is_read_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for zarr_format in (2, 3):
        found = reader.read(make(tmp_path / f"{zarr_format}.ome.zarr", zarr_format))
        assert (found.axes, found.pixel_size, found.channels) == ("ZYX", SIZES, ())
        np.testing.assert_array_equal(found.values, PIXELS)
    assert caplog.messages == []


MULTISCALES: dict[str, dict[str, Any]] = {
    "unknown type of an axis": {"axes": axes(type="depth")},
    "no type of an axis": {"axes": axes(type=None)},
    "no name of the image": {"name": None},
    "a number as the name": {"name": 7},
    "names of axes in capitals": {"axes": [{**axis, "name": axis["name"].upper()} for axis in axes()]},
    "an unknown version": {"version": "latest"},
    "scale beside an unknown transformation": {
        "datasets": [{"path": "0", "coordinateTransformations": [*SCALE, {"type": "shear", "by": 3}]}]
    },
    "a second level without a scale": {"datasets": [{"path": "0", "coordinateTransformations": SCALE}, {"path": "1"}]},
}


@pytest.mark.parametrize("change", MULTISCALES.values(), ids=MULTISCALES)
def test_metadata_that_break_a_rule_are_read(tmp_path: Path, change: dict[str, Any]) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found["multiscales"][0].update(change))
    found = reader.read(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(found.values, PIXELS)
    assert (found.axes, found.pixel_size) == ("ZYX", SIZES)


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        ({"axes": ["z", "y", "x"]}, {}),  # 0.3
        ({"axes": axes(unit="furlong")}, {}),
        ({"axes": axes(unit=3)}, {}),
        ({"datasets": [{"path": "0"}]}, {axis: PhysicalSize(value=1) for axis in "xyz"}),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 3]}]},
         {**SIZES, "x": PhysicalSize(value=0.75)}),
        ({"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2, -1, 0]}]}]},
         {"z": PhysicalSize(value=2)}),
    ],
)  # fmt: skip
def test_only_sizes_that_the_metadata_state_are_read(
    tmp_path: Path, change: dict[str, Any], sizes: dict[str, PhysicalSize]
) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found["multiscales"][0].update(change))
    found = reader.read(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(found.values, PIXELS)
    assert found.pixel_size == sizes


def test_the_rule_that_is_broken_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found["multiscales"][0].update(axes=axes(type="depth")))
    with caplog.at_level(logging.WARNING):
        reader.read(tmp_path / "a.ome.zarr")
    (message,) = caplog.messages
    assert message.startswith("a.ome.zarr is not valid OME-Zarr 0.4: multiscales.0.axes: ")


@pytest.mark.parametrize(
    "omero", [{"channels": [{"label": "DAPI"}]}, {"channels": [{"label": "DAPI", "color": "blue"}]}]
)
def test_names_of_channels_are_read_without_colors_and_windows(tmp_path: Path, omero: dict[str, Any]) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found.update(omero=omero))
    assert reader.read(tmp_path / "a.ome.zarr").channels == ("DAPI",)


@pytest.mark.parametrize("omero", [{}, {"channels": None}, {"channels": [{"label": "DAPI"}, {}]}, None])
def test_channels_without_a_name_are_none(tmp_path: Path, omero: Any) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found.update(omero=omero))
    assert reader.read(tmp_path / "a.ome.zarr").channels == ()


def test_a_group_without_zgroup_is_read(tmp_path: Path) -> None:
    (make(tmp_path / "a.ome.zarr") / ".zgroup").unlink()
    np.testing.assert_array_equal(reader.read(tmp_path / "a.ome.zarr").values, PIXELS)


FORMAT_2: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no fill value": lambda found: found.pop("fill_value"),
    "no order": lambda found: found.pop("order"),
    "no filters": lambda found: found.pop("filters"),
    "no format": lambda found: found.pop("zarr_format"),
    "numpy's name of the type": lambda found: found.update(dtype="uint16"),
}
FORMAT_3: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no fill value": lambda found: found.pop("fill_value"),
    "no attributes": lambda found: found.pop("attributes"),
    "no encoding of keys": lambda found: found.pop("chunk_key_encoding"),
    "an unknown field": lambda found: found.update(consolidated_metadata=None),
    "too few names of dimensions": lambda found: found.update(dimension_names=["y"]),
    "the codec endian of a draft": lambda found: found["codecs"][0].update(name="endian"),
}


@pytest.mark.parametrize("change", FORMAT_2.values(), ids=FORMAT_2)
def test_incomplete_metadata_of_an_array_of_format_2_are_read(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit(make(tmp_path / "a.ome.zarr") / "0/.zarray", change)
    np.testing.assert_array_equal(reader.read(tmp_path / "a.ome.zarr").values, PIXELS)


@pytest.mark.parametrize("change", FORMAT_3.values(), ids=FORMAT_3)
def test_incomplete_metadata_of_an_array_of_format_3_are_read(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    edit(make(tmp_path / "a.ome.zarr", 3) / "0/zarr.json", change)
    np.testing.assert_array_equal(reader.read(tmp_path / "a.ome.zarr").values, PIXELS)


STORED: list[tuple[int, dict[str, Any]]] = [
    (2, {"compressors": None}),
    (2, {"compressors": numcodecs.Blosc("zstd", 1, 2), "order": "F"}),
    (2, {"compressors": numcodecs.LZ4(), "filters": [numcodecs.Delta(dtype="u2")]}),
    (2, {"chunk_key_encoding": {"name": "v2", "separator": "/"}, "fill_value": 7}),
    (3, {"compressors": [zarr.codecs.BloscCodec(cname="lz4"), zarr.codecs.Crc32cCodec()]}),
    (3, {"compressors": [zarr.codecs.GzipCodec()], "filters": [zarr.codecs.TransposeCodec(order=(2, 0, 1))]}),
    (3, {"compressors": [zarr.codecs.BloscCodec(cname="lz4")], "shards": (2, 16, 24)}),
    (3, {"compressors": [zarr.codecs.ZstdCodec()], "shards": (3, 16, 24),
         "serializer": zarr.codecs.BytesCodec(endian="big")}),
]  # fmt: skip


@pytest.mark.parametrize(("zarr_format", "how"), STORED)
def test_pixels_are_read_however_they_are_stored(tmp_path: Path, zarr_format: int, how: dict[str, Any]) -> None:
    found = reader.read(make(tmp_path / "a.ome.zarr", zarr_format, **how))
    np.testing.assert_array_equal(found.values, PIXELS)
    assert found.dtype == found.values.dtype == np.dtype("uint16")


def test_missing_chunks_have_the_fill_value(tmp_path: Path) -> None:
    make(tmp_path / "a.ome.zarr", fill_value=9)
    (tmp_path / "a.ome.zarr/0/1.0.0").unlink()
    found = reader.read(tmp_path / "a.ome.zarr").values
    assert (found[1, :8] == 9).all()
    np.testing.assert_array_equal(found[1, 8:], PIXELS[1, 8:])


CODECS: list[tuple[int, dict[str, Any]]] = [
    (2, {"compressors": numcodecs.Blosc("lz4", 3, 1)}),
    (2, {"compressors": numcodecs.Zstd()}),
    (2, {"compressors": numcodecs.GZip()}),
    (2, {"compressors": numcodecs.LZ4()}),
    (2, {"compressors": None}),
    (3, {"compressors": [zarr.codecs.BloscCodec()]}),
    (3, {"compressors": [zarr.codecs.BloscCodec()], "shards": (1, 16, 24)}),
]


@pytest.mark.parametrize("cut", [0, 5, 100, 300])
@pytest.mark.parametrize(("zarr_format", "how"), CODECS)
def test_a_chunk_that_was_cut_off_is_an_error(tmp_path: Path, zarr_format: int, how: dict[str, Any], cut: int) -> None:
    array = make(tmp_path / "a.ome.zarr", zarr_format, **how) / "0"
    chunk = next(
        file for file in sorted(array.rglob("*")) if file.is_file() and file.suffix != ".json" and file.name[0] != "."
    )
    chunk.write_bytes(chunk.read_bytes()[:cut])
    with pytest.raises(Permanent, match=r"^a\.ome\.zarr cannot be read as OME-Zarr: a chunk is broken"):
        reader.read(tmp_path / "a.ome.zarr")


def test_pickled_chunks_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/0/.zarray", lambda found: found.update(filters=[{"id": "pickle"}]))
    with pytest.raises(Permanent, match="pickled chunks would execute code"):
        reader.read(tmp_path / "a.ome.zarr")


def test_an_array_that_disappears_is_not_an_array_of_fill_values(tmp_path: Path) -> None:
    make(tmp_path / "a.ome.zarr")
    with reader.opened(tmp_path / "a.ome.zarr") as found:
        shutil.rmtree(tmp_path / "a.ome.zarr")
        with pytest.raises(OSError, match="not there any more"):
            _ = found.values


@pytest.mark.parametrize(
    ("multiscales", "words"),
    [
        (None, "no multiscales metadata"),
        ([], "no multiscales metadata"),
        ({"datasets": 3}, "multiscales metadata are wrong"),
        (["image"], "multiscales metadata are wrong"),
        ([{"datasets": [{"path": "../../other/0"}]}], "'../../other/0' is outside the image"),
        ([{"datasets": [{"path": "/etc"}]}], "'/etc' is outside"),
        ([{"datasets": [{"path": "7"}]}], "no Zarr array in 7"),
        ([{"datasets": [{"path": "0"}], "axes": ["z", "q", "x"]}], "axes Z, Q, X are not some of T, C, Z, Y, X"),
        ([{"datasets": [{"path": "0"}], "axes": ["z", "angle", "x"]}], "axes Z, ANGLE, X are not"),
        ([{"datasets": [{"path": "0"}], "axes": ["y", "x"]}], "2 axes (Y, X) for 3 dimensions"),
        ([{"datasets": [{"path": "0"}], "axes": [{"type": "space"}]}], "KeyError('name')"),
        ([{"datasets": [{"path": "0"}], "coordinateSystems": []}], "coordinate systems"),
        ([{"datasets": [{"path": "0", "coordinateTransformations": SCALE}], "axes": ["y", "x"]}], "for 2 axes"),
    ],
)  # fmt: skip
def test_metadata_that_make_no_sense_are_an_error_that_names_the_file(
    tmp_path: Path, multiscales: Any, words: str
) -> None:
    make(tmp_path / "a.ome.zarr")
    edit(tmp_path / "a.ome.zarr/.zattrs", lambda found: found.update(multiscales=multiscales))
    with pytest.raises(Permanent) as caught:
        reader.read(tmp_path / "a.ome.zarr")
    assert str(caught.value).startswith("a.ome.zarr cannot be read as OME-Zarr: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("file", [".zattrs", "0/.zarray"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"text"', b"[" * 100_000, b"[]"])
def test_metadata_that_are_not_json_objects_are_an_error(tmp_path: Path, file: str, content: bytes) -> None:
    (make(tmp_path / "a.ome.zarr") / file).write_bytes(content)
    with pytest.raises(Permanent, match=r"^a\.ome\.zarr cannot be read as OME-Zarr: "):
        reader.read(tmp_path / "a.ome.zarr")


def test_the_converter_that_travels_knows_the_same_units() -> None:
    assert convert.LENGTHS == units.LENGTHS
