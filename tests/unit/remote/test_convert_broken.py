"""Errors name image, file and cause, and no incomplete TIFF remains."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
import zarr.codecs

from biomeroworker.remote import convert

NAME = "image-9.ome.zarr"


def make(folder: Path, zarr_format: int = 2, **more: Any) -> Path:
    """An image of 4 × 16 × 16 with noise in chunks of 1 × 8 × 16; returns its folder."""
    metadata = {"multiscales": [{"axes": [{"name": axis} for axis in "zyx"], "datasets": [{"path": "0"}]}]}
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    group.attrs.update(metadata if zarr_format == 2 else {"ome": metadata})
    array = group.create_array("0", shape=(4, 16, 16), dtype="uint16", chunks=(1, 8, 16), **more)
    array[...] = np.random.default_rng(1).integers(0, 60_000, (4, 16, 16))
    return folder


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Converts; checks that it failed and left nothing half done; returns the last line on stderr."""

    def convert_it(code: int = 1) -> str:
        assert convert.main([str(tmp_path / "in"), str(tmp_path / "tiff"), "--jobs", "2"]) == code
        assert [file.name for file in (tmp_path / "tiff").iterdir() if file.name != "image-1.tif"] == []
        error_line = capsys.readouterr().err.splitlines()
        assert len(error_line) == 1
        return error_line[0]

    return convert_it


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; None removes one."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chunks": None}, "'chunks' is missing"),
        ({"chunks": [1, 8]}, "chunks (1, 8) for shape (4, 16, 16)"),
        ({"chunks": [1, 0, 16]}, "chunks (1, 0, 16) for shape"),
        ({"shape": "wide"}, "invalid literal"),
        ({"dtype": "<q9"}, "not understood"),
        ({"compressor": {"id": "secret"}}, "codec 'secret' is not known"),
        ({"compressor": {"level": 3}}, "'id' is missing"),
        ({"fill_value": "grey"}, "could not convert"),
        ({"fill_value": 70_000}, "out of bounds"),
    ],
)
def test_invalid_metadata_of_an_array_are_refused(
    tmp_path: Path, refused: Callable[..., str], changes: dict[str, Any], words: str
) -> None:
    edit(make(tmp_path / "in" / NAME) / "0/.zarray", **changes)
    error_line = refused()
    assert error_line.startswith(f"image-9: {NAME}/0/.zarray is invalid: ")
    assert words in error_line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codecs": [{"name": "bytes"}, {"name": "secret"}]}, "codec 'secret' is not known"),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 5, 1]}}]}, "out of range"),
        ({"node_type": "group"}, "node type 'group', not an array"),
        ({"chunk_grid": {"name": "rectilinear"}}, "chunk grid 'rectilinear' is not supported"),
        ({"data_type": "string"}, "not understood"),
        ({"codecs": []}, "no codec that converts pixels to bytes"),
    ],
)
def test_invalid_metadata_of_format_3_are_refused(
    tmp_path: Path, refused: Callable[..., str], changes: dict[str, Any], words: str
) -> None:
    edit(make(tmp_path / "in" / NAME, 3) / "0/zarr.json", **changes)
    error_line = refused()
    assert error_line.startswith(f"image-9: {NAME}/0/zarr.json is invalid: ")
    assert words in error_line


@pytest.mark.parametrize(
    ("multiscales", "words"),
    [
        (None, "no multiscales metadata"),
        ([], "no multiscales metadata"),
        ({"datasets": 3}, "are invalid"),
        (["image"], "are invalid"),
        ([{"datasets": [{"path": "../../other/0"}]}], "'../../other/0' leads out of image-9.ome.zarr"),
        ([{"datasets": [{"path": "/etc"}]}], "'/etc' leads out of"),
        ([{"datasets": [{"path": "7"}]}], "neither .zarray nor zarr.json is in image-9.ome.zarr/7"),
        ([{"datasets": [{"path": "0"}], "axes": ["z", "q", "x"]}], "axes Z, Q, X are not some of T, C, Z, Y, X"),
        ([{"datasets": [{"path": "0"}], "axes": ["z", "angle", "x"]}], "axes Z, ANGLE, X are not"),
        ([{"datasets": [{"path": "0"}], "axes": ["x", "y", "z"]}], "axes X, Y, Z are not"),
        ([{"datasets": [{"path": "0"}], "axes": ["y", "x"]}], "2 axes (Y, X) for 3 dimensions"),
        ([{"datasets": [{"path": "0"}], "axes": [{"type": "space"}]}], "'name' is missing"),
        ([{"datasets": [{"path": "0"}], "coordinateSystems": []}], "coordinate systems"),
        (
            [{
                "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 2]}]}],
                "axes": ["z", "y", "x"],
            }],
            "scale [1, 2] for 3 axes",
        ),
    ],
)  # fmt: skip
def test_invalid_metadata_of_an_image_are_refused(
    tmp_path: Path, refused: Callable[..., str], multiscales: Any, words: str
) -> None:
    edit(make(tmp_path / "in" / NAME) / ".zattrs", multiscales=multiscales)
    error_line = refused()
    assert error_line.startswith("image-9: ")
    assert words in error_line


@pytest.mark.parametrize(("file", "words"), [(".zattrs", "no zarr metadata is in"), ("0/.zarray", "neither .zarray")])
def test_missing_metadata_are_refused(tmp_path: Path, refused: Callable[..., str], file: str, words: str) -> None:
    (make(tmp_path / "in" / NAME) / file).unlink()
    error_line = refused()
    assert NAME in error_line
    assert words in error_line


@pytest.mark.parametrize("file", [".zattrs", "0/.zarray"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b'"text"', "is invalid"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_metadata_that_are_not_json_are_refused(
    tmp_path: Path, refused: Callable[..., str], file: str, content: bytes, words: str
) -> None:
    (make(tmp_path / "in" / NAME) / file).write_bytes(content)
    error_line = refused()
    assert f"{NAME}/{file}" in error_line
    assert words in error_line


@pytest.mark.parametrize(
    "codec",
    [None, numcodecs.Blosc("lz4"), numcodecs.Blosc("zstd", shuffle=0), numcodecs.Zstd(), numcodecs.GZip(),
     numcodecs.LZ4(), numcodecs.BZ2()],
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 3, 15, 100, -1])
def test_a_truncated_chunk_is_refused(tmp_path: Path, refused: Callable[..., str], codec: Any, size: int) -> None:
    make(tmp_path / "in/image-1.ome.zarr")
    chunk = make(tmp_path / "in" / NAME, compressors=codec) / "0/2.1.0"
    chunk.write_bytes(chunk.read_bytes()[:size])
    error_line = refused()
    assert error_line.startswith(f"image-9: chunk {NAME}/0/2.1.0 is invalid: ")
    assert (tmp_path / "tiff/image-1.tif").exists()  # it was complete before, and remains


@pytest.mark.parametrize("codec", [numcodecs.Blosc("lz4"), numcodecs.Zstd(), numcodecs.GZip()])
def test_a_chunk_of_the_wrong_size_is_refused(tmp_path: Path, refused: Callable[..., str], codec: Any) -> None:
    chunk = make(tmp_path / "in" / NAME, compressors=codec) / "0/0.0.0"
    chunk.write_bytes(b"\x02\x01\x21\x02" + os.urandom(chunk.stat().st_size - 4))
    assert f"chunk {NAME}/0/0.0.0 is invalid" in refused()


def test_a_chunk_with_extra_bytes_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    chunk = make(tmp_path / "in" / NAME, compressors=None) / "0/0.0.0"
    chunk.write_bytes(bytes(1000))
    assert refused().endswith("it has 1000 bytes of pixels, not 256")


@pytest.mark.parametrize("size", [0, 10, -1, -70])
def test_a_truncated_shard_is_refused(tmp_path: Path, refused: Callable[..., str], size: int) -> None:
    shard = make(tmp_path / "in" / NAME, 3, shards=(2, 16, 16)) / "0/c/1/0/0"
    shard.write_bytes(shard.read_bytes()[:size])
    assert f"chunk {NAME}/0/c/1/0/0 (" in refused()


def test_a_shard_with_an_invalid_index_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    shard = make(tmp_path / "in" / NAME, 3, shards=(2, 16, 16)) / "0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    assert "crc32c cannot unpack it" in refused()


def test_a_wrong_checksum_of_a_chunk_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    chunk = make(tmp_path / "in" / NAME, 3, compressors=[zarr.codecs.Crc32cCodec()]) / "0/c/0/0/0"
    content = bytearray(chunk.read_bytes())
    content[7] ^= 1
    chunk.write_bytes(content)
    assert f"chunk {NAME}/0/c/0/0/0 is invalid: crc32c cannot unpack it" in refused()


def test_a_chunk_that_cannot_be_read_is_a_fault_of_the_machine(tmp_path: Path, refused: Callable[..., str]) -> None:
    chunk = make(tmp_path / "in" / NAME) / "0/1.0.0"
    chunk.unlink()
    chunk.symlink_to(chunk)
    assert refused(convert.IO_ERROR).startswith(f"image-9: chunk {NAME}/0/1.0.0 cannot be read: ")


def test_a_folder_that_disappears_does_not_count_as_chunks_that_were_not_written(tmp_path: Path) -> None:
    folder = make(tmp_path / "in" / NAME)
    image = convert.Image(folder, "image-9")
    shutil.rmtree(folder)
    (tmp_path / "tiff").mkdir()
    with pytest.raises(convert.Unreadable, match=r"^image-9: image-9.ome.zarr/0/.zarray is no longer there"):
        convert.Conversion(2, convert.Progress(None, 1)).run([image], tmp_path / "tiff")
    assert not list((tmp_path / "tiff").iterdir())


def test_a_full_disk_leaves_no_file(tmp_path: Path) -> None:
    make(tmp_path / "in" / NAME)
    done = subprocess.run(
        [sys.executable, convert.__file__, tmp_path / "in", tmp_path / "tiff"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500)),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == convert.IO_ERROR
    assert done.stderr.startswith("image-9: ")
    assert not list((tmp_path / "tiff").iterdir())


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("B/2", "plate-3.ome.zarr/B/2 does not exist"),
        ("B/2/0", "plate-3_B2_0: plate-3.ome.zarr/B/2/0 does not exist"),
        ("B/2/0/0/.zarray", "plate-3_B2_0: neither .zarray nor zarr.json is in plate-3.ome.zarr/B/2/0/0"),
    ],
)
def test_a_plate_with_missing_wells_is_refused(
    tmp_path: Path, refused: Callable[..., str], missing: str, words: str
) -> None:
    plate = tmp_path / "in/plate-3.ome.zarr"
    zarr.open_group(plate, mode="w", zarr_format=2).attrs["plate"] = {"wells": [{"path": "B/2"}]}
    zarr.open_group(plate / "B/2", mode="w", zarr_format=2).attrs["well"] = {"images": [{"path": "0"}]}
    make(plate / "B/2/0")
    gone = plate / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert words in refused()


def test_a_zarr_that_is_a_file_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / NAME).write_bytes(b"PK\3\4")
    assert refused() == f"{NAME} is a file, not a folder"


def test_two_images_with_the_same_name_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    make(tmp_path / "in" / NAME)
    make(tmp_path / "in/image-9.zarr")
    assert refused() == "image-9: two images would have this name"


def test_unsupported_pixel_types_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    edit(
        make(tmp_path / "in" / NAME, compressors=None) / "0/.zarray", dtype="<M8[s]", chunks=[1, 8, 4], shape=[4, 16, 4]
    )
    assert refused() == "image-9: OME-TIFF does not support pixels of type datetime64[s]"


HOSTILE = ["-n", "a b [1];$(touch x)", "line\nbreak", "é 漢", "%s {0} \\n", "'\"&<>", os.fsdecode(b"bytes \xff")]


def test_names_may_have_any_characters(tmp_path: Path) -> None:
    for name in HOSTILE:
        folder = make(tmp_path / "in" / f"{name}.ome.zarr")
        multiscales = json.loads((folder / ".zattrs").read_text())["multiscales"]
        multiscales[0]["name"] = name
        edit(folder / ".zattrs", multiscales=multiscales, omero={"channels": [{"label": name + "\x00\ud800"}]})
    command = [sys.executable, convert.__file__, "in", "tiff"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == len(HOSTILE)
    assert {file.name for file in (tmp_path / "tiff").iterdir()} == {f"{name}.tif" for name in HOSTILE}
    assert {path.name for path in tmp_path.iterdir()} == {"in", "tiff"}
    for name in HOSTILE:
        with tifffile.TiffFile(tmp_path / "tiff" / f"{name}.tif") as tiff:
            image = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
        plain = name.replace("\udcff", "").split()  # XML makes a blank of a line break in an attribute
        assert str(image["Name"]).split() == plain
        assert str(image["Pixels"]["Channel"]["Name"]).split() == plain
    for name in HOSTILE:
        (tmp_path / f"in/{name}.ome.zarr/0/.zarray").unlink()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"neither .zarray nor zarr.json is in" in done.stderr
