"""Descriptors of all formats become one model; what is wrong in one is named by its field."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from biomeroworker.errors import ConfigError
from biomeroworker.workflows.descriptor import Family, ParameterType
from biomeroworker.workflows.parameters import Folders, arguments, validate
from biomeroworker.workflows.readers import DescriptorFault, read
from biomeroworker.workflows.store import parse
from tests.unit.workflows.descriptors import BIAFLOWS, BILAYERS, BIOMERO

FOLDERS = Folders(input="/run/in", output="/run/out", ground_truth="/run/gt")


def test_biaflows_inputs_of_cytomine_are_dropped() -> None:
    workflow = read(BIAFLOWS, "here")
    assert [one.id for one in workflow.inputs] == ["radius", "threshold", "invert", "stain"]
    radius, threshold, invert, stain = workflow.inputs
    assert (radius.type, radius.default, radius.minimum, radius.maximum) == (ParameterType.NUMBER, 5, 1, 50)
    assert radius.command_line_flag == "--radius"
    assert radius.value_key == "RADIUS"
    assert threshold.default == 0.5
    assert threshold.name == "threshold"
    assert invert.default is False
    assert stain.choices == ("dapi", "h2b")
    assert (workflow.family, workflow.format) == (Family.BIAFLOWS, "tiff")


def test_a_biaflows_descriptor_needs_neither_description_nor_command_line() -> None:
    assert read(BIAFLOWS).description == ""


def test_a_biaflows_number_takes_a_fraction_even_if_its_default_is_whole() -> None:
    workflow = read(BIAFLOWS)
    assert "--radius=2.5" in arguments(workflow, validate(workflow, {"radius": "2.5"}), FOLDERS)


def test_a_biomero_schema_descriptor_names_formats_and_choices() -> None:
    workflow = read(BIOMERO)
    assert workflow.format == "zarr"
    assert workflow.takes_plates
    assert [one.id for one in workflow.parameters] == ["model", "count"]
    assert workflow.inputs[1].choice_labels == ("Model A", "b")
    assert workflow.inputs[1].advanced
    assert [one.id for one in workflow.outputs] == ["labels"]


def test_bilayers_images_have_their_tag_and_switches_have_no_value() -> None:
    workflow = read(BILAYERS)
    assert workflow.container_image == "cellprofiler/runcellpose:2.3.2"
    assert [one.id for one in workflow.parameters] == ["diameter", "use_gpu", "flag_word", "model"]
    assert arguments(workflow, validate(workflow, {}), FOLDERS) == [
        "--dir=/run/in", "--savedir=/run/out", "--diameter=30.0", "--use_gpu", "--word=False", "--model=nuclei",
        "--verbose", "--channel", "0", "1",
    ]  # fmt: skip
    assert "--use_gpu" not in arguments(workflow, validate(workflow, {"use_gpu": False}), FOLDERS)


@pytest.mark.parametrize(("declared", "read_as"), [(True, True), (False, False), (None, None)])
def test_a_bilayers_image_declares_depth_and_time_points(declared: bool | None, read_as: bool | None) -> None:
    content = copy.deepcopy(BILAYERS)
    content["inputs"][0] |= {} if declared is None else {"depth": declared, "timepoints": declared}
    image = read(content).inputs[0]
    assert (image.depth, image.timepoints) == (read_as, read_as)
    assert read(BIOMERO).inputs[0].depth is None


def test_a_bilayers_parameter_without_a_flag_is_positional() -> None:
    content = copy.deepcopy(BILAYERS)
    content["parameters"] = [{"name": "x", "type": "integer", "label": "X", "default": 4, "cli_tag": "None"}]
    workflow = read(content)
    assert arguments(workflow, validate(workflow, {}), FOLDERS)[1] == "4"


def _without(content: dict[str, Any], *path: str | int) -> dict[str, Any]:
    return _with(content, *path, value=None)


def _with(content: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(content)
    place = changed
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (_without(BIAFLOWS, "name"), "name"),
        (_without(BIAFLOWS, "container-image"), "schema-version"),  # nothing left by which to know the format
        (_without(BIAFLOWS, "container-image", "image"), "container-image.image"),
        (_without(BIAFLOWS, "inputs"), "inputs"),
        (_without(BIAFLOWS, "inputs", 2, "id"), "inputs[2].id"),
        (_with(BIAFLOWS, "inputs", 2, "type", value="Colour"), "inputs[2].type"),
        (_with(BIAFLOWS, "inputs", 2, "default-value", value="many"), "inputs[2].default-value"),
        (_with(BIAFLOWS, "inputs", 2, "default-value", value=99), "inputs[0]"),
        (_with(BIAFLOWS, "inputs", 2, "minimum", value=60), "inputs[0]"),
        (_with(BIAFLOWS, "inputs", 3, "id", value="radius"), "inputs"),
        (_with(BIAFLOWS, "inputs", 5, "value-choices", value="dapi"), "inputs[5].value-choices"),
        (_with(BIAFLOWS, "container-image", "image", value="x; rm -rf /"), "container_image"),
        (_without(BILAYERS, "docker_image", "name"), "docker_image.name"),
        (_with(BILAYERS, "parameters", 0, "type", value="knob"), "parameters[0].type"),
        ({"cwlVersion": "v1.2"}, "cwlVersion"),
        ({"$schema": "https://openapi.example"}, "$schema"),
        ({"schema-version": "other-3"}, "schema-version"),
    ],
)
def test_an_error_names_its_field(content: dict[str, Any], field: str) -> None:
    if field == "schema-version" and "inputs" in content:
        content.pop("schema-version")
    with pytest.raises(DescriptorFault) as caught:
        read(content)
    assert caught.value.field.startswith(field), caught.value


def test_a_descriptor_error_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"/etc/w/descriptor\.json: inputs\[2\]\.type: 'Colour'"):
        parse(json.dumps(_with(BIAFLOWS, "inputs", 2, "type", value="Colour")), "/etc/w/descriptor.json")
    with pytest.raises(ConfigError, match=r"x\.json: is not valid JSON: Expecting"):
        parse("{", "x.json")
    with pytest.raises(ConfigError, match=r"x\.yaml: a descriptor is an object"):
        parse("- 1", "x.yaml")


def test_the_sandboxes_own_workflow_reads() -> None:
    file = Path(__file__).parents[3] / "sandbox/workflow/descriptor.json"
    workflow = parse(file.read_text(), str(file))
    assert [one.id for one in workflow.parameters] == ["diameter", "min_size", "export_csv"]
    assert workflow.parameters[0].maximum == 200


@pytest.mark.parametrize("kind", ["file", "array", "measurement", "executable"])
def test_an_input_that_is_a_file_and_no_image_is_a_file_parameter_unless_the_server_sets_it(kind: str) -> None:
    file = {"id": "weights", "type": kind, "name": "W", "optional": True}

    def is_file_parameter(**more: Any) -> bool:
        (found,) = read({**BIAFLOWS, "inputs": [{**file, **more}]}).inputs
        return found.file_attachment

    assert is_file_parameter()
    assert not is_file_parameter(**{"set-by-server": True})
    assert is_file_parameter(**{"set-by-server": True, "file-attachment": True})
    assert not is_file_parameter(type="image")


def test_a_bilayers_file_input_for_several_files_gets_a_folder() -> None:
    one = {"name": "w", "type": "file", "label": "W", "cli_tag": "--w"}
    found = read(
        {**BILAYERS, "inputs": [{**one, "file_count": "multiple"}, {**one, "name": "v", "file_count": "single"}]}
    )
    assert [(each.id, each.file_attachment, each.several_files) for each in found.inputs[:2]] == [
        ("w", True, True),
        ("v", True, False),
    ]
