"""The dialog, and the request that a filled-in one makes."""

import omero.clients  # noqa: F401  loads omero-py in the order that it needs
import pytest
from omero.rtypes import unwrap

from biomeroworker.errors import RequestRejected
from biomeroworker.omero.importing.options import Options
from biomeroworker.omero.scripts import dialog
from biomeroworker.workflows.descriptor import Family, Parameter, ParameterType, Workflow

NUCLEI = Workflow(
    name="Nuclei",
    family=Family.BIAFLOWS,
    container_image="127.0.0.1:5000/lab/nuclei:v1.2.0",
    inputs=(
        Parameter(id="diameter", type=ParameterType.FLOAT, name="Diameter", default=0.1, minimum=0, maximum=500),
        Parameter(id="min_size", type=ParameterType.NUMBER, name="Min", default=30),
        Parameter(id="huge", type=ParameterType.INTEGER, name="Huge", default=2**40),
        Parameter(id="model", type=ParameterType.STRING, name="Model", default="b", choices=("a", "b")),
        Parameter(id="odd", type=ParameterType.STRING, name="Odd", default="c", choices=("a", "b")),
        Parameter(id="export_csv", type=ParameterType.BOOLEAN, name="CSV", default=True),
        Parameter(id="infolder", type=ParameterType.STRING, name="in", set_by_server=True),
    ),
)
OTHER = Workflow(name="Other", family=Family.BIAFLOWS, container_image="lab/other")
WORKFLOWS = [("nuclei", NUCLEI), ("other", OTHER)]


def fields():
    return {field.name(): field for field in dialog.declare(WORKFLOWS)}


def filled(**more):
    return {"Data_Type": "Dataset", "IDs": [3], "nuclei": True, **more}


def test_parameters_have_the_names_that_people_use():
    names = fields()
    assert {"Data_Type", "IDs", "E-mail", "nuclei", "nuclei_Version", "nuclei_|_diameter", "other"} <= set(names)
    assert "nuclei_|_infolder" not in names


def test_each_type_of_parameter_becomes_one_that_omero_has():
    names = fields()
    kinds = {
        key: type(names[f"nuclei_|_{key}"]).__name__ for key in ("diameter", "min_size", "huge", "model", "export_csv")
    }
    assert kinds == {"diameter": "Float", "min_size": "Float", "huge": "Long", "model": "String", "export_csv": "Bool"}
    assert unwrap(names["nuclei_|_model"].values) == ["a", "b"]
    assert names["nuclei_Version"].prototype.val == "v1.2.0"


@pytest.mark.parametrize(("given", "taken"), [(12, 12), (12.0, 12), (12.5, 12.5)])
def test_a_number_may_be_whole_or_not_whatever_its_default(given, taken):
    (request,) = dialog.requests(filled(**{"nuclei_|_min_size": given}), WORKFLOWS)
    assert request.parameters == {"min_size": taken}
    assert type(request.parameters["min_size"]) is type(taken)


def test_a_number_that_a_float_cannot_hold_is_whole():
    counted = Parameter(id="n", type=ParameterType.NUMBER, name="N", default=1, maximum=2**25)
    workflow = NUCLEI.model_copy(update={"inputs": (counted,)})
    (field,) = [one for one in dialog.declare([("nuclei", workflow)]) if one.name() == "nuclei_|_n"]
    assert type(field).__name__ == "Int"


def test_the_versions_on_the_cluster_are_what_may_be_chosen():
    known = {"nuclei": ["v1.10.0", "v1.2.0"], "other": ["v2"]}
    names = {field.name(): field for field in dialog.declare(WORKFLOWS, known)}
    assert unwrap(names["nuclei_Version"].values) == ["v1.10.0", "v1.2.0"]
    assert names["nuclei_Version"].prototype.val == "v1.2.0", "the one that its descriptor names"
    assert unwrap(names["other_Version"].values) == ["v2"]
    assert not names["other_Version"].useDefault, "empty is the newest"
    gone = {field.name(): field for field in dialog.declare(WORKFLOWS, {"nuclei": ["v1.1.0"]})}
    assert not gone["nuclei_Version"].useDefault, "a default that is not there would be refused"


def test_a_default_outside_its_choices_does_not_take_the_dialog_down():
    odd = fields()["nuclei_|_odd"]
    assert not odd.useDefault


def test_bounds_are_in_the_description_and_are_checked_by_the_supervisor():
    diameter = fields()["nuclei_|_diameter"]
    assert "0 to 500" in diameter.description
    assert diameter.max is None


def test_only_type_and_ids_must_be_given():
    required = {name for name, field in fields().items() if not field.optional and not field.useDefault}
    assert required == {"IDs"}


def test_a_filled_in_dialog_is_one_request_with_everything():
    (request,) = dialog.requests(
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


def test_a_batch_size_splits_the_run():
    (request,) = dialog.requests(filled(Batch_Size=32), WORKFLOWS)
    assert request.batch_size == 32
    (request,) = dialog.requests(filled(), WORKFLOWS)
    assert request.batch_size == 0, "by default all images are in one job"
    with pytest.raises(RequestRejected, match="Batch_Size"):
        dialog.requests(filled(Batch_Size=-1), WORKFLOWS)


def test_two_ticked_workflows_are_two_requests():
    assert [request.workflow for request in dialog.requests(filled(other=True), WORKFLOWS)] == ["nuclei", "other"]


def test_no_address_is_given_unless_wanted():
    (request,) = dialog.requests(filled(**{"E-mail": False}), WORKFLOWS, email="ann@lab")
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
    options = Options.of(dialog.outputs(given)).model_dump()
    assert {key: options[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "select one of: nuclei, other"),
        ({"stardist": True, "stardist_Version": "1"}, "stardist is not configured"),
        ({"nuclei": True, "Screen_ID": 5}, "Screen_ID"),
        ({"nuclei": True, "3a) Import into NEW Screen": "mine"}, "NEW Screen"),
        ({"nuclei": True, "Cleanup?": False}, "Cleanup.*retention_days"),
        ({"nuclei": True, "OME-Zarr_version": "0.5"}, "OME-Zarr_version.*0.4, not 0.5"),
        ({"nuclei": True, "Use_ZARR_Format": True}, "Use_ZARR_Format: nuclei reads TIFF"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(given, words):
    with pytest.raises(RequestRejected, match=words):
        dialog.requests({"Data_Type": "Dataset", "IDs": [1], **given}, WORKFLOWS)


def test_options_for_the_present_behaviour_are_accepted():
    given = {"Cleanup?": True, "OME-Zarr_version": "0.4", "Use_ZARR_Format": False}
    assert len(dialog.requests(filled(**given), WORKFLOWS)) == 1
