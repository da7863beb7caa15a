"""Pictures show the exported inputs with the outlines of the label images, in bounded memory."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from biomeroworker.domain.manifest import Chunk, InputImage, InputManifest, Portion, ResultFile, ResultManifest
from biomeroworker.domain.source import Output
from biomeroworker.imaging import ome_zarr
from biomeroworker.report import figures
from biomeroworker.report.model import PICTURES


def image(number: int, shape: tuple[int, int, int, int, int] = (1, 1, 1, 64, 96), **more: Any) -> InputImage:
    key = f"image-{number}"
    return InputImage(key=key, path=f"{key}.ome.zarr", name=f"cell {number}", shape=shape, pixel_type="uint16", **more)


def export(folder: Path, given: InputImage, value: int = 0) -> None:
    pixels = np.full(given.shape, value, "uint16")
    pixels[..., 10:20, 10:30] = 900
    ome_zarr.write_image(folder / given.path, pixels, name=given.name)


def labels(folder: Path, name: str, shape: tuple[int, ...] = (64, 96), *boxes: tuple[int, int]) -> ResultFile:
    values = np.zeros(shape, "uint16")
    for label, (y, x) in enumerate(boxes or ((10, 10), (40, 50)), start=1):
        values[..., y : y + 12, x : x + 20] = label
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / name, values)
    return ResultFile(path=name, size=1, sha256="0")


def drawn(tmp_path: Path, images: list[InputImage], files: list[ResultFile], **more: Any) -> figures.Figures:
    inputs = InputManifest(run="r", images=tuple(images))
    results = ResultManifest(run="r", attempt=1, files=tuple(files))
    return figures.draw(inputs, tmp_path / "in", tmp_path / "thumbnails", results, tmp_path / "out", **more)


def pixels_of(jpeg: bytes | None) -> np.ndarray[Any, Any]:
    assert jpeg is not None
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def yellow(pixels: np.ndarray[Any, Any]) -> int:
    """How many pixels are as yellow as an outline."""
    return int(np.count_nonzero((pixels[..., 0] > 150) & (pixels[..., 1] > 120) & (pixels[..., 2] < 110)))


def test_an_input_is_shown_with_the_outlines_and_the_number_of_its_objects(tmp_path: Path) -> None:
    one = image(1)
    export(tmp_path / "in", one)
    found = drawn(tmp_path, [one], [labels(tmp_path / "out", "image-1_mask.tif")])
    (picture,) = found.pictures
    pixels = pixels_of(picture.jpeg)
    assert pixels.shape == (171, 256, 3), "the longer side is 256, the other one in proportion"
    assert yellow(pixels) > 100
    assert pixels[40, 50].min() > 200, "the pixels of the input inside the first object"
    assert (picture.name, dict(picture.objects)) == ("cell 1", {"mask": 2})
    assert found.objects == {"mask": (("cell 1", 2),)}


def test_an_input_without_label_image_is_shown_alone(tmp_path: Path) -> None:
    one = image(1)
    export(tmp_path / "in", one)
    found = drawn(tmp_path, [one], [])
    assert yellow(pixels_of(found.pictures[0].jpeg)) == 0
    assert found.objects == {}


def test_an_image_of_intensities_is_not_taken_for_labels(tmp_path: Path) -> None:
    one = image(1)
    export(tmp_path / "in", one)
    (tmp_path / "out").mkdir()
    noise = np.random.default_rng(1).integers(1, 4000, (64, 96)).astype("uint16")
    tifffile.imwrite(tmp_path / "out" / "image-1_bright.tif", noise)
    found = drawn(tmp_path, [one], [ResultFile(path="image-1_bright.tif", size=1, sha256="0")])
    assert (dict(found.pictures[0].objects), found.objects) == ({}, {})


@pytest.mark.parametrize("content", [b"no tiff", b""])
def test_a_broken_result_does_not_spoil_the_picture(tmp_path: Path, content: bytes) -> None:
    one = image(1)
    export(tmp_path / "in", one)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "image-1_mask.tif").write_bytes(content)
    found = drawn(tmp_path, [one], [ResultFile(path="image-1_mask.tif", size=1, sha256="0")])
    assert pixels_of(found.pictures[0].jpeg).shape == (171, 256, 3)


def test_the_middle_plane_of_a_stack_is_shown_with_its_labels(tmp_path: Path) -> None:
    one = image(1, (1, 2, 5, 64, 96))
    export(tmp_path / "in", one)
    values = np.zeros((5, 64, 96), "uint16")
    values[2, 10:40, 10:40] = 1
    values[4, 10:40, 10:40] = 2
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "out" / "image-1_mask.tif", values)
    found = drawn(tmp_path, [one], [ResultFile(path="image-1_mask.tif", size=1, sha256="0")])
    assert found.objects == {"mask": (("cell 1", 2),)}, "the objects of all planes"
    assert yellow(pixels_of(found.pictures[0].jpeg)) > 100


def test_labels_without_their_input_are_drawn_on_black(tmp_path: Path) -> None:
    found = drawn(tmp_path, [image(1)], [labels(tmp_path / "out", "image-1_mask.tif")])
    assert yellow(pixels_of(found.pictures[0].jpeg)) > 100


def test_an_input_of_which_nothing_is_left_has_a_note(tmp_path: Path) -> None:
    (picture,) = drawn(tmp_path, [image(1)], []).pictures
    assert picture.jpeg is None
    assert "not on this machine" in picture.note


def test_at_most_24_images_are_shown_and_the_rois_of_all_are_counted(tmp_path: Path) -> None:
    images = [image(number) for number in range(1, 41)]
    files = [labels(tmp_path / "out", f"image-{number}_mask.tif") for number in range(1, 41)]
    made = [Output("Roi", f"Image:{number}", f"image-{number}_mask.tif", 7) for number in range(1, 41)]
    found = drawn(tmp_path, images, files, made=made)
    assert (len(found.pictures), found.total, len(found.objects["mask"])) == (PICTURES, 40, 40)
    assert set(found.objects["mask"]) == {(f"cell {number}", 7) for number in range(1, 41)}


def test_thumbnails_are_kept_of_chunks_that_are_deleted_after_they_were_sent(tmp_path: Path) -> None:
    images = [image(number) for number in (1, 2)]
    inputs = InputManifest(run="r", images=tuple(images), chunks=(Chunk(keys=("image-1",)), Chunk(keys=("image-2",))))
    export(tmp_path / "going" / "0000", images[0])
    figures.keep_thumbnails(inputs, inputs.portions(0), tmp_path / "going" / "0000", tmp_path / "thumbnails")
    found = drawn(tmp_path, images, [labels(tmp_path / "out", "image-1_mask.tif")])
    assert yellow(pixels_of(found.pictures[0].jpeg)) > 100
    assert found.pictures[1].jpeg is None


def test_thumbnails_are_kept_only_of_images_that_are_shown(tmp_path: Path) -> None:
    images = [image(number) for number in range(PICTURES + 1)]
    inputs = InputManifest(run="r", images=tuple(images))
    export(tmp_path / "in", images[-1])
    figures.keep_thumbnails(inputs, [Portion(images[-1])], tmp_path / "in", tmp_path / "thumbnails")
    assert not (tmp_path / "thumbnails").exists()


def test_each_field_of_a_plate_is_a_picture_with_its_own_results(tmp_path: Path) -> None:
    origin = {"type": "Plate", "id": 3, "A/1/0": 11, "B/2/0": 12}
    plate = image(1).model_copy(update={"key": "plate-3", "path": "plate-3.ome.zarr", "origin": origin})
    for field in ("A/1/0", "B/2/0"):
        pixels = np.zeros(plate.shape, "uint16")
        ome_zarr.write_image(tmp_path / "in" / plate.path / field, pixels, name=field)
    found = drawn(tmp_path, [plate], [labels(tmp_path / "out", "plate-3_B2_0_mask.tif")])
    assert [one.key for one in found.pictures] == ["plate-3/A/1/0", "plate-3/B/2/0"]
    assert [bool(one.objects) for one in found.pictures] == [False, True]


def test_of_a_large_image_only_the_centre_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "WINDOW_PIXELS", 32)
    one = image(1)
    export(tmp_path / "in", one)
    (picture,) = drawn(tmp_path, [one], [labels(tmp_path / "out", "image-1_mask.tif")]).pictures
    assert pixels_of(picture.jpeg).shape == (256, 256, 3)
    assert picture.note == "centre of the image"
    assert figures.window(64) == slice(16, 48)


def test_a_label_image_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "LABELS_BYTES", 1000)
    one = image(1)
    export(tmp_path / "in", one)
    (picture,) = drawn(tmp_path, [one], [labels(tmp_path / "out", "image-1_mask.tif")]).pictures
    assert (yellow(pixels_of(picture.jpeg)), dict(picture.objects)) == (0, {})


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_any_type_of_pixels_has_a_contrast(dtype: str) -> None:
    plane = np.linspace(0, 100, 64 * 64).reshape(64, 64).astype(dtype)
    assert figures._contrasted(plane).min() < 5
    assert figures._contrasted(plane).max() > 250
    assert figures._contrasted(np.full((4, 4), np.nan)).max() == 0
    assert figures._contrasted(np.zeros((4, 4), dtype)).max() == 0


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "uint32"])
def test_objects_are_counted_by_their_labels(dtype: str) -> None:
    values = np.zeros((1, 1, 2, 4, 4), dtype)
    assert figures.count_objects(values) == 0
    values[0, 0, 0, :2], values[0, 0, 1, 0] = 1, 3
    assert figures.count_objects(values) == (1 if dtype == "bool" else 2)


def test_labels_of_any_size_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert figures.count_objects(np.array([0, 5, 2**31, 5], "uint32")) == 2
    assert figures.count_objects(np.array([0, -1, 7], "int32")) == 2


def test_the_rois_that_were_made_are_the_number_of_objects(tmp_path: Path) -> None:
    one = image(1)
    export(tmp_path / "in", one)
    made = [Output("Roi", "Image:1", "image-1_mask.tif", 7)]
    found = drawn(tmp_path, [one], [labels(tmp_path / "out", "image-1_mask.tif")], made=made)
    assert dict(found.pictures[0].objects) == {"mask": 7}


def test_a_large_image_is_reduced_before_its_contrast_is_computed(tmp_path: Path) -> None:
    one = image(1, (1, 1, 1, 1500, 3000))
    export(tmp_path / "in", one)
    (picture,) = drawn(
        tmp_path, [one], [labels(tmp_path / "out", "image-1_mask.tif", (1500, 3000), (600, 600))]
    ).pictures
    assert pixels_of(picture.jpeg).shape == (128, 256, 3)
    assert picture.note == ""
