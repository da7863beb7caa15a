"""Which label image belongs to which image."""

import pytest

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.exporting.describe import ImageInfo
from biomeroworker.omero.importing.label_images import Pair, explicit_pairs, find_pairs, unusable


def image(number=1, shape=(1, 1, 1, 8, 8), pixel_type="uint16"):
    return ImageInfo(number, f"i{number}", number, pixel_type, shape)


def test_label_images_and_images_are_paired_in_their_order():
    assert explicit_pairs([5, 6], [1, 2]) == [Pair(5, 1), Pair(6, 2)]
    for labels, targets in (([5, 6], [1]), ([], [])):
        with pytest.raises(RequestRejected, match="each label image needs its image"):
            explicit_pairs(labels, targets)


def test_a_label_image_has_the_name_of_its_image_with_the_suffix():
    labels = {5: "a_mask.tif", 6: "b_mask.ome.tiff", 7: "a.tif", 8: "c_mask.tif"}
    assert find_pairs(labels, {1: "a.png", 2: "folder/b.lif"}, {}, "_mask") == ([Pair(5, 1), Pair(6, 2)], [])


def test_provenance_is_stronger_than_the_name():
    pairs, _ = find_pairs({5: "b_mask.tif", 6: "x.tif"}, {1: "a.tif", 2: "b.tif"}, {5: 1, 6: 2}, "_mask")
    assert pairs == [Pair(5, 1), Pair(6, 2)]


def test_a_label_image_made_from_another_image_is_left_out():
    assert find_pairs({5: "a_mask.tif"}, {1: "a.tif"}, {5: 99}, "_mask") == ([], [])


def test_a_name_that_fits_two_images_is_reported():
    pairs, problems = find_pairs({5: "a_mask.tif"}, {1: "a.tif", 2: "a.png"}, {}, "_mask")
    assert not pairs
    assert "2 images have this name" in problems[0]


def test_without_a_suffix_no_image_of_the_selection_is_a_label_image():
    assert find_pairs({1: "a.tif", 2: "a.tif"}, {1: "a.tif", 2: "a.tif"}, {}, "") == ([], [])
    assert find_pairs({5: "a.tif"}, {1: "a.tif"}, {}, "")[0] == [Pair(5, 1)]


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        (image(pixel_type="float"), "labels are whole numbers"),
        (image(shape=(1, 1, 1, 9, 8)), "8x9x1x1x1"),
        (image(shape=(1, 2, 1, 8, 8)), "must be equal"),
        (image(shape=(1, 1, 3, 8, 8)), "must be equal"),
        (image(shape=(1, 1, 1, 40000, 40000)), "3.2 GB"),
    ],
)
def test_a_label_image_that_does_not_fit_is_explained(label, problem):
    assert problem in unusable(label, image(2, shape=(2, 3, 5, 8, 8)))


def test_a_single_plane_fits_every_plane_of_a_stack():
    assert unusable(image(), image(2, shape=(2, 3, 5, 8, 8))) == ""
