"""The fields of the dialog: names, types, order and help."""

import omero.clients  # noqa: F401  loads omero-py in the order that it needs
import pytest
from omero.rtypes import unwrap

from biomeroworker.omero.scripts.fields import declare
from biomeroworker.workflows.descriptor import Parameter, ParameterType
from tests.unit.omero.scripts.dialog_workflows import NUCLEI, WORKFLOWS


def fields(**options):
    return {field.name(): field for field in declare(WORKFLOWS, **options)[0]}


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


def test_a_number_that_a_float_cannot_hold_is_whole():
    counted = Parameter(id="n", type=ParameterType.NUMBER, name="N", default=1, maximum=2**25)
    workflow = NUCLEI.model_copy(update={"inputs": (counted,)})
    (field,) = [one for one in declare([("nuclei", workflow)])[0] if one.name() == "nuclei_|_n"]
    assert type(field).__name__ == "Int"


def test_the_versions_on_the_cluster_are_what_may_be_chosen():
    known = {"nuclei": ["v1.10.0", "v1.2.0"], "other": ["v2"]}
    names = {field.name(): field for field in declare(WORKFLOWS, known)[0]}
    assert unwrap(names["nuclei_Version"].values) == ["v1.10.0", "v1.2.0"]
    assert names["nuclei_Version"].prototype.val == "v1.2.0", "the one that its descriptor names"
    assert unwrap(names["other_Version"].values) == ["v2"]
    assert not names["other_Version"].useDefault, "empty is the newest"
    gone = {field.name(): field for field in declare(WORKFLOWS, {"nuclei": ["v1.1.0"]})[0]}
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


def boxes(**options):
    """The fields as OMERO.web 5.33 shows them: sorted by grouping, with the fields of a box below its first field."""
    shown = []
    for field in sorted(declare(WORKFLOWS, **options)[0], key=lambda one: one.grouping):
        first = shown[-1] if shown else []
        if first and field.grouping.split(".")[0] == first[0].grouping:
            first.append(field)
        else:
            shown.append([field])
    return [[field.name() for field in box] for box in shown]


@pytest.mark.parametrize("batched", [False, True])
def test_inputs_come_first_then_the_workflows_then_the_results_and_last_what_few_people_change(batched):
    found = boxes(batched=batched)
    heads = [box[0] for box in found]
    inputs = ["Data_Type", "IDs", "Batch_Size"] if batched else ["Data_Type", "IDs"]
    assert heads[: len(inputs)] == inputs
    assert heads[len(inputs) :][:4] == [
        "nuclei",
        "other",
        "Select how to import your results (one or more)",
        "6a) Create ROIs from label images",
    ]
    rest = ["E-mail", "Detach", "Cleanup?", *([] if batched else ["Batch_Size"]), "Use_ZARR_Format", "OME-Zarr_version"]
    assert heads[len(inputs) + 4 :] == rest
    results = found[len(inputs) + 2]
    assert results[1] == "3a) Import into NEW Dataset"


def test_a_workflow_has_its_parameters_in_its_box_with_advanced_ones_and_the_version_last():
    (box,) = [box for box in boxes() if box[0] == "nuclei"]
    assert box[1:4] == ["nuclei_|_diameter", "nuclei_|_min_size", "nuclei_|_model"]
    assert box[-2:] == ["nuclei_|_huge", "nuclei_Version"]


def test_the_boxes_are_right_with_more_than_a_hundred_workflows_and_parameters():
    many = tuple(Parameter(id=f"p{n}", type=ParameterType.INTEGER, name="P", optional=True) for n in range(120))
    workflows = [(f"w{n:03d}", NUCLEI.model_copy(update={"inputs": many if n == 1 else ()})) for n in range(120)]
    names = [field.name() for field in sorted(declare(workflows)[0], key=lambda one: one.grouping)]
    assert [name for name in names if name in dict(workflows)] == list(dict(workflows))
    start = names.index("w001")
    assert names[start + 1 : start + 121] == [f"w001_|_p{n}" for n in range(120)]


def test_every_field_has_a_help_text():
    assert not [name for name, field in fields().items() if not field.description.strip()]


def test_the_batch_size_must_be_given_in_the_batched_dialog():
    field = fields(batched=True)["Batch_Size"]
    assert (field.optional, field.prototype.val) == (False, 32)
    field = fields()["Batch_Size"]
    assert (field.optional, field.prototype.val) == (True, 0)


@pytest.mark.parametrize("email", [False, True])
def test_e_mail_is_ticked_only_where_an_e_mail_can_be_sent(email):
    assert fields(email=email)["E-mail"].prototype.val is email


def test_a_file_parameter_takes_a_list_of_annotation_ids():
    field = fields()["nuclei_|_FILE_weights"]
    assert (type(field).__name__, field.optional) == ("List", True)
    assert type(field.prototype.val[0]).__name__ == "RLongI"
    assert "npz" in field.description
    assert "nuclei_|_weights" not in fields()


def test_labels_of_choices_and_a_needed_value_are_in_the_help():
    chosen = Parameter(
        id="c", type=ParameterType.STRING, name="C", choices=("0", "1"), choice_labels=("None", "All"), minimum=None
    )
    (field,) = [
        one for one in declare([("w", NUCLEI.model_copy(update={"inputs": (chosen,)}))])[0] if "_c" in one.name()
    ]
    assert "0: None, 1: All." in field.description
    assert field.description.endswith("A value is needed.")


def test_a_workflow_whose_field_has_a_name_that_is_taken_is_left_out_and_named():
    found, problems = declare([("IDs", NUCLEI), *WORKFLOWS])
    assert list(problems) == ["IDs"]
    assert "another name" in problems["IDs"]
    names = [field.name() for field in found]
    assert names.count("IDs") == 1
    assert "nuclei" in names


def test_an_error_in_one_workflow_hides_only_this_workflow():
    broken = NUCLEI.model_copy(update={"description": None, "container_image": None})
    found, problems = declare([("broken", broken), *WORKFLOWS])
    assert list(problems) == ["broken"]
    assert {"nuclei", "other"} <= {field.name() for field in found}
