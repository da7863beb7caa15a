import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from biomeroworker.deployment.folder_source import FolderSource
from biomeroworker.domain.manifest import PhysicalSize, ResultFile, ResultManifest
from biomeroworker.domain.request import RunRequest
from biomeroworker.domain.source import Provenance
from biomeroworker.errors import Blocked, Permanent, RequestRejected
from tests.fakes.guards import UNGUARDED

BY = Provenance("r", 1, "nuclei", "v1", "image.sif", "sha256:0", {"diameter": 30}, 7)


def quiet(fraction, word):
    assert 0 <= fraction <= 1


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def request(images, results):
    return RunRequest(
        workflow="nuclei", source="folder", inputs={"folder": str(images)}, outputs={"folder": str(results)}
    )


def staged(wanted, folder):
    source = FolderSource()
    manifest = source.list_inputs("r", wanted)
    source.stage_in("r", wanted, manifest.portions(), folder, quiet, UNGUARDED)
    return manifest


def test_pixels_sizes_and_channel_names_arrive_as_ome_zarr(images, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 3, 40, 50), dtype="uint16")
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeY": 0.25,
        "PhysicalSizeZ": 1.5,
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(images / "cells.ome.tif", pixels, metadata=metadata)
    manifest = staged(request(images, tmp_path / "out"), tmp_path)

    (image,) = manifest.images
    assert (image.key, image.path, image.name) == ("image-1", "image-1.ome.zarr", "cells.ome")
    assert image.shape == (1, 2, 3, 40, 50)
    assert {axis: size.value for axis, size in image.pixel_size.items()} == {"x": 0.25, "y": 0.25, "z": 1.5}
    assert image.channels == ("DAPI", "GFP")
    group = zarr.open_group(tmp_path / image.path, mode="r")
    np.testing.assert_array_equal(group["0"][0], pixels)
    scale = group.attrs["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, 1.0, 1.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ("YX", (8, 9), (1, 1, 1, 8, 9)),
        ("ZYX", (3, 8, 9), (1, 1, 3, 8, 9)),
        ("TYX", (3, 8, 9), (3, 1, 1, 8, 9)),
        ("TZCYX", (2, 3, 4, 8, 9), (2, 4, 3, 8, 9)),
        ("YXS", (8, 9, 3), (1, 3, 1, 8, 9)),
    ],
)
def test_any_order_of_axes_becomes_tczyx(images, tmp_path, axes, shape, expected):
    pixels = np.arange(np.prod(shape), dtype="uint16").reshape(shape)
    options = {"photometric": "rgb"} if axes == "YXS" else {"photometric": "minisblack", "metadata": {"axes": axes}}
    tifffile.imwrite(images / "a.ome.tif", pixels, ome=True, **options)
    (image,) = staged(request(images, tmp_path / "out"), tmp_path).images
    assert image.shape == expected
    stored = zarr.open_group(tmp_path / image.path, mode="r")["0"][...]
    assert sorted(stored.ravel()) == sorted(pixels.ravel())


def test_file_names_with_shell_syntax_are_unchanged(images, tmp_path):
    name = "a b [1];$(touch x)"
    tifffile.imwrite(images / f"{name}.tif", np.zeros((4, 4), "uint8"))
    out = tmp_path / "out"
    manifest = staged(request(images, out), tmp_path)
    assert manifest.images[0].path == "image-1.ome.zarr"

    (tmp_path / "image-1_mask.tif").write_bytes(b"labels")
    results = ResultManifest(run="r", attempt=1, files=(ResultFile(path="image-1_mask.tif", size=6, sha256="0"),))
    (made,) = FolderSource().stage_out(request(images, out), manifest, results, tmp_path, BY, quiet, UNGUARDED)
    assert (out / f"{name}_mask.tif").read_bytes() == b"labels"
    assert made.reference == str(out / f"{name}_mask.tif")


def test_a_second_stage_out_writes_no_further_files(images, tmp_path):
    tifffile.imwrite(images / "one.tif", np.zeros((4, 4), "uint8"))
    out = tmp_path / "out"
    source, wanted = FolderSource(), request(images, out)
    manifest = staged(wanted, tmp_path)
    (tmp_path / "image-1_mask.tif").write_bytes(b"labels")
    (tmp_path / "summary.csv").write_bytes(b"a,b\n")
    files = tuple(ResultFile(path=name, size=6, sha256="0") for name in ("image-1_mask.tif", "summary.csv"))
    results = ResultManifest(run="r", attempt=1, files=files)
    source.stage_out(wanted, manifest, results, tmp_path, BY, quiet, UNGUARDED)
    source.stage_out(wanted, manifest, results, tmp_path, BY, quiet, UNGUARDED)
    assert sorted(path.name for path in out.iterdir()) == ["one_mask.tif", "provenance.json", "summary.csv"]
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["parameters"] == {"diameter": 30}
    assert provenance["inputs"] == {"image-1": "one.tif"}, "a table that names image-1 can be read"


def test_a_file_that_is_no_tiff_is_an_error_with_its_name(images, tmp_path):
    (images / "broken.tif").write_bytes(b"not a tiff")
    with pytest.raises(Permanent, match=r"broken\.tif cannot be read as TIFF"):
        staged(request(images, tmp_path / "out"), tmp_path)


def test_an_interrupted_export_is_repeated(images, tmp_path):
    tifffile.imwrite(images / "one.tif", np.full((4, 4), 7, "uint8"))
    half = tmp_path / ".image-1.ome.zarr.4711.part"
    half.mkdir()
    (half / "junk").write_text("left by a killed export")
    staged(request(images, tmp_path / "out"), tmp_path)
    assert not half.exists()
    assert zarr.open_group(tmp_path / "image-1.ome.zarr", mode="r")["0"][0, 0, 0, 0, 0] == 7


def test_a_file_name_that_is_not_utf8_is_rejected(images, tmp_path):
    Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.tif")).touch()
    with pytest.raises(RequestRejected, match="not UTF-8"):
        FolderSource().check(request(images, tmp_path / "out"))


def test_folders_that_cannot_work_are_rejected(images, tmp_path):
    source = FolderSource()
    with pytest.raises(RequestRejected, match="is not a folder"):
        source.check(request(tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(RequestRejected, match="has no images"):
        source.check(request(images, tmp_path / "out"))
    tifffile.imwrite(images / "one.tif", np.zeros((4, 4), "uint8"))
    with pytest.raises(RequestRejected, match="is the input folder"):
        source.check(request(images, images))
    source.check(request(images, tmp_path / "out"))
    (tmp_path / "out").mkdir()
    source.check(request(images, tmp_path / "out"))
    (tmp_path / "out/precious.csv").write_text("mine")
    with pytest.raises(RequestRejected, match="not an empty folder"):
        source.check(request(images, tmp_path / "out"))


def results_of(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return ResultManifest(run="r", attempt=1, files=tuple(ResultFile(path=name, size=1, sha256="0") for name in names))


def test_results_with_the_same_name_get_different_names(images, tmp_path):
    for name in ("cell.tif", "cell.tiff"):
        tifffile.imwrite(images / name, np.zeros((4, 4), "uint8"))
    out = tmp_path / "out"
    manifest = staged(request(images, out), tmp_path)
    results = results_of(tmp_path, "image-1_mask.tif", "image-2_mask.tif", "a/b.csv", "a_b.csv", "provenance.json")
    made = FolderSource().stage_out(request(images, out), manifest, results, tmp_path, BY, quiet, UNGUARDED)
    assert len({one.reference for one in made}) == len(made) == 5
    for one in made:
        assert Path(one.reference).read_text() == one.result
    assert json.loads((out / "provenance.json").read_text())["run"] == "r"


def test_a_file_of_another_program_in_the_output_folder_is_not_overwritten(images, tmp_path):
    tifffile.imwrite(images / "one.tif", np.zeros((4, 4), "uint8"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "one_mask.tif").write_text("precious")
    manifest = staged(request(images, out), tmp_path)
    with pytest.raises(Blocked, match=r"one_mask\.tif"):
        FolderSource().stage_out(
            request(images, out), manifest, results_of(tmp_path, "image-1_mask.tif"), tmp_path, BY, quiet, UNGUARDED
        )
    assert (out / "one_mask.tif").read_text() == "precious"


def test_pixel_sizes_keep_their_unit(images, tmp_path):
    metadata = {"axes": "YX", "PhysicalSizeX": 3, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(images / "a.ome.tif", np.ones((4, 5), ">u2"), photometric="minisblack", metadata=metadata)
    (image,) = staged(request(images, tmp_path / "out"), tmp_path).images
    assert image.pixel_size == {"x": PhysicalSize(value=3, unit="nanometer")}
    assert image.pixel_type == "uint16"
    group = zarr.open_group(tmp_path / image.path, mode="r")
    assert group.attrs["multiscales"][0]["axes"][4]["unit"] == "nanometer"
    assert (group["0"][...] == 1).all()
