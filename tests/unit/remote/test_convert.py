"""OME-Zarr to OME-TIFF: any axes, both versions, nothing lost, nothing read twice."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from biomeroworker.remote import convert

SIZES = {"t": 2, "c": 2, "z": 3, "y": 17, "x": 23}
UNITS = {"t": "second", "z": "micrometer", "y": "nanometer", "x": "micrometer"}
SCALE = {"t": 30.0, "c": 1.0, "z": 2.0, "y": 250.0, "x": 0.5}
AXES = ["yx", "cyx", "zyx", "tyx", "czyx", "tcyx", "tzyx", "tczyx"]


def make(
    folder: Path,
    axes: str,
    version: str,
    *,
    dtype: str = "uint16",
    chunks: int = 8,
    name: str = "a <b> [1];$(touch x).tif",
    channels: tuple[str, ...] = ("DAPI", "µ & GFP"),
    sizes: dict[str, int] = SIZES,
    depth: int = 1,
    **more: Any,
) -> np.ndarray[Any, Any]:
    """Write an image; returns its pixels."""
    shape = tuple(sizes[axis] for axis in axes)
    pixels = np.random.default_rng(5).integers(0, 2 if dtype == "bool" else 120, shape).astype(dtype)
    multiscales = {
        "name": name,
        "axes": [{"name": axis, **({"unit": UNITS[axis]} if axis in UNITS else {})} for axis in axes],
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": [{"type": "scale", "scale": [SCALE[axis] / 2 for axis in axes]}],
            }
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [2] * len(axes)}],
    }
    metadata: dict[str, Any] = {"multiscales": [multiscales]}
    if channels:
        metadata["omero"] = {"channels": [{"label": label} for label in channels]}
    group = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.attrs.update(metadata if version == "0.4" else {"ome": {"version": version, **metadata}})
    grid = tuple(chunks if axis in "yx" else min(depth, sizes[axis]) for axis in axes)
    array = group.create_array("s0", shape=shape, dtype=dtype, chunks=grid, **more)
    array[...] = pixels
    return pixels


def run(tmp_path: Path, *more: str) -> int:
    return convert.main([str(tmp_path / "in"), str(tmp_path / "tiff"), "--jobs", "2", *more])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", AXES)
def test_pixels_axes_sizes_and_names_are_preserved(tmp_path: Path, axes: str, version: str) -> None:
    pixels = make(tmp_path / "in/image-7.ome.zarr", axes, version)
    assert run(tmp_path) == 0
    with tifffile.TiffFile(tmp_path / "tiff/image-7.tif") as tiff:
        assert tiff.series[0].axes == axes.upper()
        for page in tiff.pages:
            assert page.aspage().photometric == tifffile.PHOTOMETRIC.MINISBLACK
            assert page.aspage().samplesperpixel == 1
        np.testing.assert_array_equal(tiff.asarray(), pixels)
        assert tiff.ome_metadata is not None
        root = ElementTree.fromstring(tiff.ome_metadata)
    found = root.find(".//{*}Pixels")
    assert found is not None
    assert (found.get("PhysicalSizeX"), found.get("PhysicalSizeXUnit")) == ("0.5", "µm")
    assert (found.get("PhysicalSizeY"), found.get("PhysicalSizeYUnit")) == ("250.0", "nm")
    if "z" in axes:
        assert (found.get("PhysicalSizeZ"), found.get("PhysicalSizeZUnit")) == ("2.0", "µm")
    if "t" in axes:
        assert (found.get("TimeIncrement"), found.get("TimeIncrementUnit")) == ("30.0", "s")
    names = [channel.get("Name") for channel in found.findall("{*}Channel")]
    assert names == (["DAPI", "µ & GFP"] if "c" in axes else ["DAPI"])
    image = root.find(".//{*}Image")
    assert image is not None
    assert image.get("Name") == "a <b> [1];$(touch x).tif"


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("uint8", "uint8"), (">u2", "uint16"), ("int16", "int16"), ("uint32", "uint32"), ("float32", "float32"),
     ("float64", "float64"), ("bool", "uint8"), ("int64", "int32"), ("uint64", "uint32"), ("float16", "float32")],
)  # fmt: skip
def test_pixel_types(tmp_path: Path, dtype: str, stored: str) -> None:
    pixels = make(tmp_path / "in/image-1.ome.zarr", "cyx", "0.4", dtype=dtype)
    assert run(tmp_path) == 0
    back = tifffile.imread(tmp_path / "tiff/image-1.tif")
    assert back.dtype == stored
    np.testing.assert_array_equal(back, pixels)


def test_values_too_large_for_tiff_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "yx", "0.4", dtype="int64")
    zarr.open_array(tmp_path / "in/image-1.ome.zarr/s0")[0, 0] = 2**40
    assert run(tmp_path) == 1
    assert "image-1: values beyond int32" in capsys.readouterr().err
    assert not (tmp_path / "tiff/image-1.tif").exists()


@pytest.mark.parametrize("width", [3, 4])
def test_an_image_three_pixels_wide_is_not_rgb(tmp_path: Path, width: int) -> None:
    pixels = make(tmp_path / "in/image-1.ome.zarr", "tczyx", "0.4", sizes={**SIZES, "t": 1, "c": 1, "z": 1, "x": width})
    assert run(tmp_path) == 0
    with tifffile.TiffFile(tmp_path / "tiff/image-1.tif") as tiff:
        assert tiff.pages[0].samplesperpixel == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "tiff/image-1.tif"), pixels[0, 0, 0])


_opened: list[str] | None = None


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that Python opens, each time that it does."""
    global _opened
    if not hasattr(sys, "_biomeroworker_hook"):
        sys._biomeroworker_hook = True  # type: ignore[attr-defined]  # a hook cannot be removed: one is enough
        sys.addaudithook(_note)
    _opened = []
    yield _opened
    _opened = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open":
        _opened.append(str(arguments[0]))


@pytest.mark.parametrize(("version", "separator"), [("0.4", "."), ("0.5", "/")])
def test_each_chunk_is_read_once(tmp_path: Path, opened: list[str], version: str, separator: str) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "tczyx", version, depth=2)
    written = {str(file) for file in (tmp_path / "in/image-1.ome.zarr/s0").rglob("*") if file.is_file()}
    opened.clear()
    assert run(tmp_path) == 0
    chunks = Counter(path for path in opened if path in written and not path.endswith((".json", ".zarray", ".zattrs")))
    assert len(chunks) == 1 * 1 * 2 * 3 * 3
    assert set(chunks.values()) == {1}


def test_each_chunk_of_a_shard_is_read_once(tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "tczyx", "0.5", shards=(1, 2, 2, 16, 16))
    read: Counter[tuple[int, int, int]] = Counter()
    original = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        read[os.fstat(descriptor).st_ino, offset, length] += 1
        return original(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    opened.clear()
    assert run(tmp_path) == 0
    assert set(Counter(path for path in opened if "/s0/c/" in path).values()) == {1}
    shards, chunks = 2 * 1 * 2 * 2 * 2, 2 * 2 * 3 * 3 * 3
    assert len(read) == shards + chunks  # an index each, and every chunk
    assert set(read.values()) == {1}


def test_a_plate_becomes_one_file_per_field(tmp_path: Path) -> None:
    plate = tmp_path / "in/plate-3.ome.zarr"
    group = zarr.open_group(plate, mode="w", zarr_format=2)
    group.attrs["plate"] = {"wells": [{"path": "B/2"}, {"path": "C/11"}]}
    pixels = {}
    for well, fields in (("B/2", 2), ("C/11", 1)):
        folder = zarr.open_group(plate / well, mode="w", zarr_format=2)
        folder.attrs["well"] = {"images": [{"path": str(number)} for number in range(fields)]}
        for number in range(fields):
            pixels[f"plate-3_{well.replace('/', '')}_{number}.tif"] = make(plate / well / str(number), "cyx", "0.4")
    assert run(tmp_path) == 0
    assert {file.name for file in (tmp_path / "tiff").iterdir()} == set(pixels)
    for name, expected in pixels.items():
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "tiff" / name), expected)


def test_fewer_names_than_channels_are_filled_up(tmp_path: Path) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "cyx", "0.4", channels=("only\x01",))
    assert run(tmp_path) == 0
    with tifffile.TiffFile(tmp_path / "tiff/image-1.tif") as tiff:
        assert tiff.ome_metadata is not None
        assert 'Name="only"' in tiff.ome_metadata
        assert 'Name="Channel 1"' in tiff.ome_metadata


def test_progress_ends_at_100(tmp_path: Path) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "tczyx", "0.4")
    make(tmp_path / "in/image-2.ome.zarr", "yx", "0.5")
    assert run(tmp_path, "--progress", str(tmp_path / "progress")) == 0
    assert (tmp_path / "progress").read_text() == "100\n"


def test_it_runs_as_a_program_on_its_own(tmp_path: Path) -> None:
    make(tmp_path / "in/image-1.ome.zarr", "yx", "0.4")
    program = tmp_path / "convert.py"
    program.write_bytes(Path(convert.__file__).read_bytes())
    done = subprocess.run([sys.executable, "-I", program, tmp_path / "in", tmp_path / "tiff"], check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "tiff/image-1.tif").exists()


def test_small_images_are_converted_in_parallel(tmp_path: Path) -> None:
    expected = {f"image-{n}": make(tmp_path / f"in/image-{n}.ome.zarr", "cyx", "0.4") for n in range(20)}
    assert convert.main([str(tmp_path / "in"), str(tmp_path / "tiff"), "--jobs", "8"]) == 0
    assert {file.name for file in (tmp_path / "tiff").iterdir()} == {f"{name}.tif" for name in expected}
    for name, pixels in expected.items():
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"tiff/{name}.tif"), pixels)


def test_memory_is_bounded_with_many_threads_and_large_chunks(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "in/image-1.ome.zarr", mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"axes": list("zyx"), "datasets": [{"path": "0"}]}]
    array = group.create_array("0", shape=(80, 1024, 1024), dtype="uint16", chunks=(16, 1024, 1024))
    array[:16] = 7
    chunk = (tmp_path / "in/image-1.ome.zarr/0/0.0.0").read_bytes()
    for number in range(1, 5):
        (tmp_path / f"in/image-1.ome.zarr/0/{number}.0.0").write_bytes(chunk)
    program = tmp_path / "measured.py"
    program.write_text(
        "import re, sys\n"
        "from runpy import run_path\n"
        f"code = run_path({convert.__file__!r})['main'](sys.argv[1:])\n"
        "print(int(re.search('VmHWM:\\\\s*(\\\\d+)', open('/proc/self/status').read())[1]) >> 10)\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, program, tmp_path / "in", tmp_path / "tiff", "--jobs", "8"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert int(done.stdout.split()[-1]) < 300  # MiB; four chunks of 32 MiB, packed and unpacked, would be more
    with tifffile.TiffFile(tmp_path / "tiff/image-1.tif") as tiff:
        assert tiff.series[0].shape == (80, 1024, 1024)
        assert (tiff.pages[79].asarray() == 7).all()


@pytest.mark.parametrize(
    ("size", "planes", "big"),
    [(2**32 - 2**24, 1, False), (2**32, 1, True), (2**32 - 2**24, 100_000, True), (2 * 2**30, 1000, False)],
)
def test_bigtiff_is_chosen_by_pixels_and_directories_together(size: int, planes: int, big: bool) -> None:
    assert convert.needs_bigtiff(size, planes) is big


def test_a_plane_above_4_gib_becomes_bigtiff_in_bounded_memory(tmp_path: Path) -> None:
    side = 50_000
    group = zarr.open_group(tmp_path / "in/image-1.ome.zarr", mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"axes": list("yx"), "datasets": [{"path": "0"}]}]
    array = group.create_array("0", shape=(side, side), dtype="uint16", chunks=(4096, 4096), fill_value=0)
    array[-3:, -5:] = 9  # all other chunks are missing: neither read nor written
    assert run(tmp_path) == 0
    file = tmp_path / "tiff/image-1.tif"
    with file.open("rb") as stream:
        assert stream.read(4) == b"II\x2b\x00"
    assert file.stat().st_blocks * 512 < 600 << 20
    values = tifffile.memmap(file, mode="r")
    assert values.shape == (side, side)
    assert (values[-3:, -5:] == 9).all()
    assert not values[-4, -10:].any()
    assert not values[:3].any()
