"""The requests that a filled-in dialog makes."""

import pytest

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.scripts import filled_dialog
from tests.unit.omero.scripts.dialog_workflows import WORKFLOWS


def filled(**more):
    return {"Data_Type": "Dataset", "IDs": [3], "nuclei": True, **more}


@pytest.mark.parametrize(("given", "taken"), [(12, 12), (12.0, 12), (12.5, 12.5)])
def test_a_number_may_be_whole_or_not_whatever_its_default(given, taken):
    (request,) = filled_dialog.requests(filled(**{"nuclei_|_min_size": given}), WORKFLOWS)
    assert request.parameters == {"min_size": taken}
    assert type(request.parameters["min_size"]) is type(taken)


def test_a_filled_in_dialog_is_one_request_with_everything():
    (request,) = filled_dialog.requests(
        filled(**{"nuclei_|_diameter": 0.10000000149011612, "nuclei_|_min_size": 5, "E-mail": True}),
        WORKFLOWS,
        user=4,
        group=5,
        user_name="ann",
        email="ann@lab",
    )
    assert request.inputs == {"type": "Dataset", "ids": [3]}
    assert request.parameters == {"diameter": 0.1, "min_size": 5}
    assert (request.user, request.group, request.user_name, request.email) == (4, 5, "ann", "ann@lab")
    assert Options.of(request.outputs) == Options()


def test_the_form_state_that_omero_biomero_sends_is_no_parameter_of_the_workflow():
    state = {"nuclei_|_workflowMode": "images", "nuclei_|_plateMode": False, "nuclei_|_Format": "OME-ZARR"}
    (request,) = filled_dialog.requests(filled(**state, **{"nuclei_|_min_size": 5}), WORKFLOWS)
    assert request.parameters == {"min_size": 5}


def test_the_values_that_omero_biomero_sends_for_inputs_of_the_server_are_no_parameters():
    inputs = {"nuclei_|_infolder": "", "nuclei_|_weights": "/weights.npz", "nuclei_|_min_size": 5}
    (request,) = filled_dialog.requests(filled(**inputs), WORKFLOWS)
    assert request.parameters == {"weights": "/weights.npz", "min_size": 5}


def test_a_batch_size_splits_the_run():
    (request,) = filled_dialog.requests(filled(Batch_Size=32), WORKFLOWS)
    assert request.batch_size == 32
    (request,) = filled_dialog.requests(filled(), WORKFLOWS)
    assert request.batch_size == 0, "by default all images are in one job"
    with pytest.raises(RequestRejected, match="Batch_Size"):
        filled_dialog.requests(filled(Batch_Size=-1), WORKFLOWS)


def test_two_ticked_workflows_are_two_requests():
    assert [request.workflow for request in filled_dialog.requests(filled(other=True), WORKFLOWS)] == [
        "nuclei",
        "other",
    ]


def test_no_address_is_given_unless_wanted():
    (request,) = filled_dialog.requests(filled(**{"E-mail": False}), WORKFLOWS, email="ann@lab")
    assert request.email == ""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"3a) Import into NEW Dataset": "mine"}, {"dataset": "mine", "images": True}),
        ({"3a) Import into NEW Dataset": "--NO THANK YOU--"}, {"dataset": "", "images": False}),
        ({"3a) Import into NEW Dataset": "--NO THANK YOU--", "Dataset_ID": 8}, {"dataset_id": 8, "images": True}),
        ({"6c) ROI shape": "Mask"}, {"roi_shape": "mask"}),
        ({"6a) Create ROIs from label images": False}, {"rois": False}),
        ({"3c) Rename the imported images": "--NO THANK YOU--"}, {"rename": ""}),
        ({"1) Zip attachment to parent": True}, {"zip": True}),
        ({"6g) ROI color override": "#ff0000"}, {"roi_colour": "#ff0000"}),
        ({"6d) Delete label images after ROI creation": True}, {"label_images": False}),
        (
            {"6e) Clear existing ROIs on original images": True, "6f) Clear existing ROI name filter": "old"},
            {"clear_rois": True, "clear_filter": "old"},
        ),
        ({"3b) Allow duplicate dataset (name)?": False}, {"duplicates": False}),
        ({}, {"duplicates": True, "label_images": True, "clear_rois": False, "roi_colour": "yellow"}),
    ],
)
def test_what_to_do_with_results_is_understood(given, expected):
    options = Options.of(filled_dialog.outputs(given)).model_dump()
    assert {key: options[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "select one of: nuclei, other"),
        ({"stardist": True, "stardist_Version": "1"}, "stardist is not configured"),
        ({"nuclei": True, "Screen_ID": 5}, "Screen_ID"),
        ({"nuclei": True, "3a) Import into NEW Screen": "mine"}, "NEW Screen"),
        ({"nuclei": True, "OME-Zarr_version": "0.5"}, "OME-Zarr_version.*0.4, not 0.5"),
        ({"nuclei": True, "nuclei_|_FILE_model": [4]}, "FILE_model: nuclei has no file parameter 'model'.*weights"),
        ({"nuclei": True, "nuclei_|_FILE_weights": ["a.npz"]}, "FILE_weights: give IDs"),
        ({"nuclei": True, "nuclei_|_diameter": [1, 2]}, "diameter takes one value"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(given, words):
    with pytest.raises(RequestRejected, match=words):
        filled_dialog.requests({"Data_Type": "Dataset", "IDs": [1], **given}, WORKFLOWS)


def test_options_for_the_present_behaviour_are_accepted():
    given = {"Cleanup?": True, "OME-Zarr_version": "0.4", "Use_ZARR_Format": False}
    assert len(filled_dialog.requests(filled(**given), WORKFLOWS)) == 1


def test_the_batched_dialog_needs_a_batch_size():
    (request,) = filled_dialog.requests(filled(Batch_Size=32), WORKFLOWS, batched=True)
    assert request.batch_size == 32
    for size in (None, 0, -1):
        with pytest.raises(RequestRejected, match="Batch_Size must be a number of images, not"):
            filled_dialog.requests(filled(Batch_Size=size), WORKFLOWS, batched=True)


@pytest.mark.parametrize(("given", "expected"), [([5, 6, 5], (5, 6)), (7, (7,)), ([], None), (None, None), ("", None)])
def test_files_are_given_by_the_ids_of_their_annotations(given, expected):
    (request,) = filled_dialog.requests(filled(**{"nuclei_|_FILE_weights": given}), WORKFLOWS)
    assert request.files.get("weights") == expected
    assert request.parameters == {}


def test_a_parameter_whose_name_looks_like_that_of_a_file_is_an_ordinary_one():
    (request,) = filled_dialog.requests(filled(**{"nuclei_|_FILE_tag": "a"}), WORKFLOWS)
    assert (request.parameters, request.files) == ({"FILE_tag": "a"}, {})


def test_cleanup_off_keeps_the_folder_and_the_default_does_not():
    assert filled_dialog.requests(filled(**{"Cleanup?": False}), WORKFLOWS)[0].keep_folder
    assert not filled_dialog.requests(filled(**{"Cleanup?": True}), WORKFLOWS)[0].keep_folder
    assert not filled_dialog.requests(filled(), WORKFLOWS)[0].keep_folder


def test_zarr_is_given_to_any_workflow_if_the_user_wants_it():
    assert filled_dialog.requests(filled(Use_ZARR_Format=True), WORKFLOWS)[0].use_zarr
    assert not filled_dialog.requests(filled(), WORKFLOWS)[0].use_zarr
