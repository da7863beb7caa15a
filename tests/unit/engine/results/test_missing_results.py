"""Inputs without a result are found by the keys in the paths of the results."""

import pytest

from biomeroworker.domain.manifest import Chunk, InputImage, InputManifest
from biomeroworker.engine.results.missing_results import inputs_without_result
from tests.unit.engine.input_images import image

IMAGES = InputManifest(run="r", images=tuple(map(image, (1, 2, 12))))


def plate(number, *fields):
    return InputImage(
        key=f"plate-{number}",
        path=f"plate-{number}.ome.zarr",
        name=f"p{number}",
        shape=(1, 1, 1, 8, 8),
        pixel_type="uint8",
        origin={"type": "Plate", "id": number} | {field: 100 + place for place, field in enumerate(fields)},
    )


PLATES = InputManifest(run="r", images=(plate(3, "A/1/0", "A/1/1", "B/12/0"), plate(4, "A/1/0")))


def missing(manifest, *paths):
    return inputs_without_result(manifest.portions(), paths)


def test_an_input_that_no_result_names_has_no_result():
    assert missing(IMAGES, "image-1_mask.tif", "image-12_mask.tif", "summary.csv") == {"image-2": "n2"}


def test_with_one_table_for_all_inputs_none_is_missing():
    assert missing(IMAGES, "summary.csv", "figures/all.png") == {}


def test_several_results_of_one_input_count_once_and_all_inputs_may_have_results():
    assert missing(IMAGES, "image-1_mask.tif", "image-1.csv", "image-2.csv", "image-12.csv") == {}


def test_the_number_of_another_input_is_no_match():
    assert set(missing(IMAGES, "image-12.tif", "image-123.tif")) == {"image-1", "image-2"}


@pytest.mark.parametrize(
    "path", ["image-2/mask.tif", "0003/image-2_mask.tif", "image-2.ome.zarr/labels/cells/0/.zarray", "m_image-2.tif"]
)
def test_a_folder_or_a_part_of_the_name_may_name_the_input(path):
    assert set(missing(IMAGES, path)) == {"image-1", "image-12"}


def test_one_result_may_name_several_inputs():
    assert missing(IMAGES, "image-1_and_image-2.csv") == {"image-12": "n12"}


def test_results_that_name_foreign_ids_match_no_input():
    assert missing(IMAGES, "image-99_mask.tif") == {}


def test_a_plate_without_results_is_missing_as_a_whole():
    assert missing(PLATES, "plate-3.csv") == {"plate-4": "p4"}


@pytest.mark.parametrize(
    "paths",
    [
        ["plate-3_A1_0_mask.tif", "plate-3_B12_0_mask.tif"],
        ["plate-3.ome.zarr/.zattrs", "plate-3.ome.zarr/A/1/0/0/.zarray", "plate-3.ome.zarr/B/12/0/.zattrs"],
    ],
)
def test_a_field_is_missing_if_other_fields_of_its_plate_have_results_of_their_own(paths):
    assert missing(PLATES, *paths, "plate-4_A1_0.tif") == {"plate-3/A/1/1": "p3"}


def test_results_of_the_whole_plate_leave_no_field_without_result():
    assert missing(PLATES, "plate-3.csv", "plate-4.csv") == {}


def test_only_the_fields_of_tasks_that_ended_well_are_judged():
    chunks = (Chunk(keys=("plate-3",), fields=("A/1/0", "A/1/1")), Chunk(keys=("plate-3",), fields=("B/12/0",)))
    split = PLATES.model_copy(update={"images": PLATES.images[:1], "chunks": chunks})
    assert inputs_without_result(split.portions(0), ["plate-3_A1_1.tif"]) == {"plate-3/A/1/0": "p3"}
    assert inputs_without_result([*split.portions(0), *split.portions(1)], ["plate-3_B12_0.tif"]) == {
        "plate-3/A/1/0": "p3", "plate-3/A/1/1": "p3",
    }  # fmt: skip
