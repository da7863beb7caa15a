"""What is refused before a run is accepted, decided from the rights and the places of the objects."""

import pytest

from biomeroworker.domain.manifest import InputImage
from biomeroworker.omero.exporting.describe import missing_message
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.request_checks import Account, only_rois, roi_refusal

MEMBER = Account("ada", 5, "lab", frozenset({1, 5}))


def image(number, kind="image"):
    return InputImage(
        key=f"{kind}-{number}",
        path=f"{kind}-{number}.ome.zarr",
        name=f"n{number}",
        shape=(1, 1, 1, 8, 8),
        pixel_type="uint8",
        origin={"type": kind.title(), "id": number},
    )


def test_members_and_administrators_who_may_write_create_results_in_a_group():
    assert MEMBER.refusal() == ""
    assert Account("root", 5, "lab", frozenset({0}), frozenset({"Sudo", "WriteOwned"})).refusal() == ""


@pytest.mark.parametrize("privileges", [frozenset(), frozenset({"Sudo"})])
def test_others_are_refused_with_the_name_of_the_group(privileges):
    refusal = Account("ada", 5, "lab", frozenset({1}), privileges).refusal()
    assert refusal.startswith("ada is not a member of the group lab and cannot create results there; ask")


def test_objects_of_one_other_group_are_named_with_the_group():
    message = missing_message("Image", [7, 8], {7: ("a.tif", "lab"), 8: ("b.tif", "lab")}, "ada", mixed=False)
    assert message == (
        "OMERO has no image 7, 8 that ada can see in the group of this run; image 7 (a.tif) is in group lab; "
        "image 8 (b.tif) is in group lab: start the run from there"
    )


@pytest.mark.parametrize(
    ("elsewhere", "mixed"), [({7: ("a", "lab")}, True), ({7: ("a", "lab"), 8: ("b", "core")}, False)]
)
def test_a_mixture_of_groups_is_refused_with_the_advice_to_choose_one(elsewhere, mixed):
    message = missing_message("Image", [7, 8], elsewhere, "ada", mixed=mixed)
    assert "image 7 (a) is in group lab" in message
    assert message.endswith(": choose images of one group, and start the run from there")


def test_objects_that_the_user_cannot_see_anywhere_are_named_by_id_only():
    assert missing_message("Plate", [7], {}, "ada", mixed=True) == (
        "OMERO has no plate 7 that ada can see in the group of this run"
    )


def test_many_objects_in_another_group_are_counted():
    elsewhere = dict.fromkeys(range(8), ("n", "lab"))
    assert "; and 3 more: start" in missing_message("Image", list(elsewhere), elsewhere, "ada", mixed=False)


def test_rois_alone_are_the_results_if_everything_else_is_off():
    off = {"images": False, "tables": False, "files": False}
    assert only_rois(Options(**off))
    assert not only_rois(Options(**off | {"rois": False}))
    for name in ("images", "tables", "files", "attach_images", "zip"):
        assert not only_rois(Options(**off | {name: True}))


def test_rois_alone_are_refused_for_plates_and_for_images_that_the_user_may_only_view():
    assert roi_refusal([image(1), image(2)], {1, 2}, "ada") == ""
    assert "ada may only view n2 (image-2); import the result images too" in roi_refusal(
        [image(1), image(2)], {1}, "ada"
    )
    assert "plates cannot have ROIs: n3 (plate-3)" in roi_refusal([image(1), image(3, "plate")], {1, 3}, "ada")
