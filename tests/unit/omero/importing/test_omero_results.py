"""Sorting results, naming what they become, and reading their pixels."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from biomeroworker.domain.manifest import InputImage, InputManifest, PhysicalSize, ResultFile, ResultManifest
from biomeroworker.errors import Permanent
from biomeroworker.imaging.results import Result, kind_of, sort, to_tczyx
from biomeroworker.omero.importing.results import image_name, read_image, to_omero_type, to_pyramid_type
from tests.ome_zarr_images import VERSIONS, write_image

INPUT = InputImage(
    key="image-12",
    path="image-12.ome.zarr",
    name="a b [1];$(touch x).tif",
    shape=(1, 2, 5, 30, 40),
    pixel_type="uint16",
    pixel_size={"x": PhysicalSize(value=0.25), "y": PhysicalSize(value=0.25)},
    channels=("DAPI", "GFP"),
    origin={"type": "Image", "id": 12},
)


def result(path, of=INPUT):
    return Result(path, kind_of(path), of)


def test_results_are_matched_by_id_and_not_by_what_begins_alike():
    files = tuple(
        ResultFile(path=path, size=1, sha256="0")
        for path in ("image-12_mask.tif", "image-1.csv", "image-120_mask.tif", "summary.txt")
    )
    sorted_results = sort(ResultManifest(run="r", attempt=1, files=files), InputManifest(run="r", images=(INPUT,)))
    assert {one.path: (one.kind, one.input is not None) for one in sorted_results} == {
        "image-12_mask.tif": ("image", True),
        "image-1.csv": ("table", False),
        "image-120_mask.tif": ("image", False),
        "summary.txt": ("file", False),
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("image-12_mask.tif", "a b [1];$(touch x)_mask"),
        ("mask_image-12.ome.tiff", "a b [1];$(touch x)_mask"),
        ("image-12.tif", "a b [1];$(touch x)_result"),
        ("deep/image-12-cells-1.tif", "a b [1];$(touch x)_cells-1"),
    ],
)
def test_a_result_is_named_after_the_users_image_and_what_the_workflow_added(path, name):
    assert image_name(result(path)) == name


def test_a_result_of_the_whole_run_keeps_its_own_name():
    assert image_name(result("overview.tif", None)) == "overview"


def test_the_series_in_brackets_remains_and_the_file_extension_is_removed():
    lif = INPUT.model_copy(update={"name": "plate1/exp.lif [Series 3]"})
    assert image_name(result("image-12_mask.tif", lif)) == "plate1/exp [Series 3]_mask"


def test_a_pattern_fills_in_what_it_knows_and_leaves_the_rest():
    named = INPUT.model_copy(update={"name": "cells.ome.tiff"})
    assert image_name(result("image-12_mask.tif", named), "{original_file}-{file}.{ext} {x}") == (
        "cells-image-12_mask.tif {x}"
    )


def test_what_lies_inside_a_zarr_is_no_image_of_its_own():
    assert kind_of("image-1.ome.zarr/0/0/a.tif") == "file"


def zarr_files(folder, *places, version):
    """The files of a Zarr that holds images with one level each."""
    for place in places:
        write_image(folder / place, np.ones((1, 1, 1, 9, 9), np.uint8), name="x", version=version)
    return tuple(
        ResultFile(path=str(file.relative_to(folder)), size=1, sha256="0")
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_each_image_in_ome_zarr_is_one_result(tmp_path, version):
    zarr_files(tmp_path, "image-12_out.ome.zarr", "image-12_out.ome.zarr/labels/cells", version=version)
    zarr_files(tmp_path, "deep/plate.zarr/A/1/0", "deep/plate.zarr/A/2/0", version=version)
    (tmp_path / "deep/plate.zarr/.zattrs").write_text("{}")
    (tmp_path / "strange.zarr").mkdir()
    (tmp_path / "strange.zarr/a.tif").write_text("x")
    files = zarr_files(tmp_path, version=version)
    found = sort(ResultManifest(run="r", attempt=1, files=files), InputManifest(run="r", images=(INPUT,)))
    assert {one.path: (one.kind, one.input is not None, image_name(one)) for one in found} == {
        "deep/plate.zarr/A/1/0": ("image", False, "plate_A_1_0"),
        "deep/plate.zarr/A/2/0": ("image", False, "plate_A_2_0"),
        "image-12_out.ome.zarr": ("image", True, "a b [1];$(touch x)_out"),
        "image-12_out.ome.zarr/labels/cells": ("image", True, "a b [1];$(touch x)_out_labels_cells"),
        "strange.zarr/a.tif": ("file", False, "strange_a.tif"),
    }
    members = [path for one in found for path in one.files]
    assert sorted(members) == [file.path for file in files]  # each belongs to one result, none is lost
    assert sum(one.size for one in found) == len(files)
    label = next(one for one in found if one.path.endswith("cells"))
    assert all(path.startswith(label.path) for path in label.files)
    assert read_image(tmp_path / label.path, INPUT).values.shape == (1, 1, 1, 9, 9)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((30, 40), "YX", (1, 1, 1, 30, 40)),
        ((5, 30, 40), "QYX", (1, 1, 5, 30, 40)),  # as long as the input's Z
        ((2, 30, 40), "IYX", (1, 2, 1, 30, 40)),  # as long as the input's C
        ((7, 30, 40), "QYX", (1, 1, 7, 30, 40)),
        ((30, 40, 3), "YXS", (1, 3, 1, 30, 40)),
        ((3, 30, 40), "SYX", (1, 3, 1, 30, 40)),
        ((5, 30, 40), "SYX", (1, 1, 5, 30, 40)),  # a stack that was written as colours
        ((5, 2, 30, 40), "ZCYX", (1, 2, 5, 30, 40)),
        ((1, 5, 30, 40), "QZYX", (1, 1, 5, 30, 40)),
    ],
)
def test_axes_of_a_tiff_are_ordered_as_omero_wants_them(shape, axes, expected):
    assert to_tczyx(np.zeros(shape, np.uint8), axes, INPUT.shape).shape == expected


def test_transposing_keeps_each_pixel_where_it_belongs():
    values = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    out = to_tczyx(values, "ZCYX", None)
    assert out[0, 2, 1, 3, 4] == values[1, 2, 3, 4]


def test_axes_that_are_no_image_are_refused():
    with pytest.raises(Permanent, match="not an image"):
        to_tczyx(np.zeros((3, 4)), "TC", None)


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.array([True]), "uint8"),
        (np.array([0, 70000], np.int64), "uint32"),
        (np.array([-5, 70000], np.int64), "int32"),
        (np.array([1.5], np.float16), "float32"),
        (np.array([1], ">u2"), "uint16"),
    ],
)
def test_types_that_omero_lacks_become_ones_that_hold_the_same_values(given, dtype):
    out = to_omero_type(given)
    assert out.dtype.name == dtype
    assert out.tolist() == given.astype(out.dtype).tolist() == given.tolist()


def test_values_that_would_be_cut_are_refused():
    with pytest.raises(Permanent, match="32 bits"):
        to_omero_type(np.array([-1, 2**40]))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 255], "uint8", "uint8"),
        ([0, 65_535], "uint32", "uint16"),
        ([0, 65_536], "uint32", "float32"),
        ([0, 2**24 + 1], "uint32", "float64"),
        ([0, 32_767], "int16", "uint16"),
        ([-1, 3], "int8", "float32"),
        ([-(2**31), 1], "int32", "float64"),
        ([0.5, 1], "float32", "float32"),
    ],
)
def test_an_image_that_needs_a_pyramid_gets_a_type_that_omero_supports(values, dtype, expected):
    given = np.array(values, dtype)
    found = to_pyramid_type(given)
    assert found.dtype.name == expected
    assert [float(value) for value in found] == [float(value) for value in given]


def test_a_result_of_the_same_field_has_the_inputs_pixel_size(tmp_path):
    path = tmp_path / "image-12_mask.tif"
    tifffile.imwrite(path, np.ones((30, 40), np.int64))
    read = read_image(path, INPUT)
    assert read.pixel_size == INPUT.pixel_size
    assert read.pixel_type == "uint32"
    tifffile.imwrite(path, np.ones((15, 20), np.uint8))
    assert read_image(path, INPUT).pixel_size == {}


def test_a_result_of_another_field_has_the_sizes_and_names_in_the_file(tmp_path):
    path = tmp_path / "image-12_small.ome.tif"
    metadata = {
        "axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 7,
        "Channel": {"Name": ["a", "b"]},
    }  # fmt: skip
    tifffile.imwrite(path, np.ones((2, 15, 20), np.uint8), photometric="minisblack", metadata=metadata)
    read = read_image(path, INPUT)
    assert read.pixel_size == {"x": PhysicalSize(value=0.5, unit="millimeter"), "y": PhysicalSize(value=7)}
    assert read.channels == ("a", "b")
    assert read_image(path, None).pixel_size == read.pixel_size


def test_the_inputs_own_sizes_go_before_what_a_workflow_has_rounded(tmp_path):
    path = tmp_path / "image-12_mask.tif"
    tifffile.imwrite(path, np.ones((5, 30, 40), np.uint8), imagej=True, resolution=(3.9, 4.1),
                     metadata={"axes": "ZYX", "spacing": 2, "unit": "um"})  # fmt: skip
    read = read_image(path, INPUT)
    assert read.pixel_size == {**INPUT.pixel_size, "z": PhysicalSize(value=2)}


def test_channels_without_a_name_in_the_file_have_the_inputs(tmp_path):
    path = tmp_path / "image-12_denoised.tif"
    tifffile.imwrite(path, np.ones((2, 30, 40), np.uint8), photometric="minisblack", metadata={"axes": "CYX"})
    assert read_image(path, INPUT).channels == ("DAPI", "GFP")
    tifffile.imwrite(path, np.ones((1, 30, 40), np.uint8), photometric="minisblack", metadata={"axes": "CYX"})
    assert read_image(path, INPUT).channels == ()  # labels are no channel of the input


def test_a_png_is_an_image_with_its_colours_as_channels(tmp_path):
    assert kind_of("image-12_overlay.PNG") == "image"
    pixels = np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3)
    Image.fromarray(pixels).save(tmp_path / "image-12_overlay.PNG")
    read = read_image(tmp_path / "image-12_overlay.PNG", INPUT)
    assert read.values.shape == (1, 3, 1, 30, 40)
    np.testing.assert_array_equal(read.values[0, :, 0], pixels.transpose(2, 0, 1))
    assert read.pixel_size == INPUT.pixel_size


@pytest.mark.parametrize("version", VERSIONS)
def test_ome_zarr_is_read_with_its_sizes_and_channels(tmp_path, version):
    pixels = np.arange(2 * 15 * 20, dtype=np.uint16).reshape(1, 2, 1, 15, 20)
    sizes = {"x": PhysicalSize(value=3, unit="nanometer")}
    path = tmp_path / "image-12_x.ome.zarr"
    write_image(path, pixels, name="x", pixel_size=sizes, channels=("a", "b"), version=version)
    read = read_image(path, INPUT)
    np.testing.assert_array_equal(read.values, pixels)
    assert (read.pixel_size, read.channels) == (sizes, ("a", "b"))


def test_a_file_that_is_no_tiff_is_named(tmp_path):
    path = tmp_path / "image-12_mask.tif"
    path.write_text("not pixels")
    with pytest.raises(Permanent, match="image-12_mask"):
        read_image(path, INPUT)
