"""Descriptors and dialog fields as old scripts read and make them."""

from __future__ import annotations

from typing import Any

import pytest

from biomero import SlurmClient, constants
from biomero.compat.schema import dialog_type
from biomero.schema_parsers import (
    DescriptorParserFactory,
    convert_schema_type_to_omero,
    convert_schema_type_to_omero_rtype,
    detect_schema_format,
)
from biomeroworker.workflows.descriptor import Parameter, ParameterType

BIAFLOWS: dict[str, Any] = {
    "name": "cells", "description": "Finds cells.", "schema-version": "cytomine-0.1", "command-line": "python run.py",
    "container-image": {"image": "lab/cells", "type": "singularity"},
    "inputs": [
        {"id": "cytomine_host", "type": "String"},
        {"id": "size", "type": "Number", "name": "Size", "description": "d", "default-value": 5, "optional": True,
         "command-line-flag": "--@id", "value-key": "[@ID]", "minimum": 1},
        {"id": "ratio", "type": "Number", "default-value": 0.5},
    ],
}  # fmt: skip
BILAYERS: dict[str, Any] = {
    "citations": [
        {"name": "Tool", "doi": "10.1/x", "license": "MIT", "description": "Does it."},
        {"name": "Other", "license": "MIT", "description": "More."},
    ],
    "docker_image": {"org": "lab", "name": "tool", "tag": "1.0"},
    "exec_function": {"cli_command": "python tool.py", "hidden_args": None},
    "inputs": [
        {"name": "dir", "type": "image", "label": "In", "cli_tag": "--dir=", "format": ["omezarr"],
         "subtype": ["plate"], "file_count": "multiple", "mode": "beginner"},
        {"name": "model", "type": "file", "label": "Model", "cli_tag": "--model", "optional": True, "format": ["h5"]},
    ],
    "parameters": [
        {"name": "chan", "type": "radio", "label": "Channel", "cli_tag": "--chan", "default": "a", "mode": "advanced",
         "options": [{"label": "First", "value": "a"}, {"label": "Second", "value": "b"}]},
        {"name": "out", "type": "textbox", "cli_tag": "--out", "default": "/out", "output_dir_set": True},
    ],
    "outputs": [{"name": "masks", "type": "image", "cli_tag": "None", "format": ["tif"], "subtype": ["label"]}],
    "display_only": None,
}  # fmt: skip
BIOMERO: dict[str, Any] = {
    "name": "b", "description": "d", "schema-version": "biomero-0.1", "command-line": "run",
    "authors": [{"name": "Ada"}], "citations": [{"name": "B", "license": "MIT"}],
    "container-image": {"image": "lab/b", "type": "oci"}, "problem-class": "object-tracking",
    "configuration": {"resources": {"gpu": True, "ram-min": 100}},
    "inputs": [{"id": "img", "type": "image", "sub-type": "grayscale", "format": "tif", "set-by-server": True}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (BIAFLOWS, "BIAFLOWS"), (BILAYERS, "bilayers"), (BIOMERO, "biomero-schema"),
        ({"schema-version": "cytomine-0.1"}, "BIAFLOWS"), ({"schema-version": "biomero-0.1"}, "biomero-schema"),
        ({"docker_image": {}}, "bilayers"), ({"container-image": {}, "inputs": []}, "BIAFLOWS"),
    ],
)  # fmt: skip
def test_the_format_is_found_of_a_part_too(part: dict[str, Any], expected: str) -> None:
    assert detect_schema_format(part) == expected


@pytest.mark.parametrize("part", [{"cwlVersion": "v1"}, {"$schema": "https://x/openapi"}, {"name": "n"}, {}])
def test_an_unknown_format_is_a_value_error(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="descriptor"):
        detect_schema_format(part)


def test_a_biaflows_descriptor_has_the_attributes_of_biomero_schema() -> None:
    parsed = DescriptorParserFactory.parse_descriptor(BIAFLOWS, name="other")
    assert (parsed.name, parsed.schema_version, parsed.container_image.image) == ("cells", "biomero-0.1", "lab/cells")
    assert [(one.id, one.type, one.default_value) for one in parsed.inputs] == [
        ("size", "integer", 5), ("ratio", "float", 0.5),
    ]  # fmt: skip
    assert (parsed.inputs[0].command_line_flag, parsed.inputs[0].value_key) == ("--size", "[SIZE]")
    assert (parsed.requires_zarr, parsed.requires_plate, parsed.configuration) == (False, False, None)
    assert parsed.authors[0].name == "Unknown"
    assert parsed.citations[0].name == "Unknown Tool"
    dumped = parsed.model_dump(by_alias=True)
    assert dumped["container-image"]["image"] == "lab/cells"
    assert dumped["inputs"][0]["default-value"] == 5


def test_a_bilayers_descriptor_has_them_too() -> None:
    parsed = DescriptorParserFactory.parse_descriptor(BILAYERS)
    assert (parsed.name, parsed.description, parsed.schema_version) == ("Tool", "Does it.", "bilayers-1.0.0")
    assert [one.doi for one in parsed.citations] == ["10.1/x", None]
    image, model, channel, out = parsed.inputs
    assert (image.format, image.sub_type, image.file_count, image.mode) == (
        ["omezarr"],
        ["plate"],
        "multiple",
        "beginner",
    )
    assert (image.command_line_flag, image.set_by_server) == ("--dir", True)
    assert (model.file_attachment, model.type) == (True, "file")
    assert (channel.value_choices, channel.value_choices_labels, channel.mode) == (
        ["a", "b"], ["First", "Second"], "advanced",
    )  # fmt: skip
    assert (out.output_dir_set, out.set_by_server) == (True, True)
    assert (parsed.requires_zarr, parsed.requires_plate) == (True, True)
    assert parsed.outputs[0].sub_type == ["label"]
    options = [{"label": value, "value": value} for value in (0, 2)]
    number = {"name": "axis", "type": "radio", "default": 0, "options": options}
    (axis,) = DescriptorParserFactory.parse_descriptor({**BILAYERS, "inputs": [], "parameters": [number]}).inputs
    assert (axis.value_choices, axis.value_choices_labels, axis.default_value) == ([0, 2], None, 0)
    older = DescriptorParserFactory.parse_descriptor({**BILAYERS, "citations": {"algorithm": []}})
    assert older.citations[0].name == "Unknown Tool"


def test_a_biomero_schema_descriptor_is_taken_as_it_is() -> None:
    parsed = DescriptorParserFactory.parse_descriptor(BIOMERO)
    assert parsed.configuration.resources.gpu is True
    assert (parsed.inputs[0].format, parsed.inputs[0].sub_type) == ("tif", "grayscale")
    assert (parsed.authors[0].name, parsed.problem_class) == ("Ada", "object-tracking")
    without = {key: value for key, value in BIOMERO.items() if key != "citations"}
    assert DescriptorParserFactory.parse_descriptor(without).citations == []


def test_a_wrong_descriptor_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="type"):
        DescriptorParserFactory.parse_descriptor({**BIAFLOWS, "inputs": [{"id": "x", "type": "nonsense"}]})


def test_a_configured_workflow_is_described_with_all_keys(client: SlurmClient) -> None:
    described = client.generic_descriptor_from_github("count")
    keys = {
        "requires-zarr",
        "requires-plate",
        "authors",
        "citations",
        "configuration",
        "institutions",
        "schema-version",
    }
    assert keys <= set(described)
    assert [(one["id"], one["type"], one["file-attachment"]) for one in described["inputs"]] == [
        ("size", "float", False), ("model", "file", True),
    ]  # fmt: skip
    assert client.get_workflow_parameters("count")["size"]["type"] == "float"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"default": 5}, "float"), ({"default": 0.5}, "float"), ({}, "float"),
        ({"default": 1, "choices": (1, 2)}, "integer"), ({"choices": (0.5, 1)}, "float"),
        ({"maximum": 2.0**25}, "integer"),
    ],
)  # fmt: skip
def test_a_number_is_a_float_in_dialogs_so_that_it_takes_12_and_a_half(more: dict[str, Any], expected: str) -> None:
    assert dialog_type(Parameter(id="n", type=ParameterType.NUMBER, name="n", **more)) == expected


def test_fields_are_made_as_every_old_dialog_calls_for_them(client: SlurmClient) -> None:
    made = client.convert_param_type_to_omtype(
        "integer", 5, "cells_|_size", description="d", default=5, optional=True, grouping="03.1"
    )
    assert (type(made).__name__, made.name(), made.prototype.val) == ("Int", "cells_|_size", 5)
    kinds = [client.convert_param_type_to_omtype(kind, None, "x") for kind in ("float", "boolean", "string", "file")]
    assert [type(one).__name__ for one in kinds] == ["Float", "Bool", "String", "String"]
    field = convert_schema_type_to_omero("Number", 0.5, "x", default=0.5, description="d")
    assert (type(field).__name__, round(field.prototype.val, 3)) == ("Float", 0.5)
    with pytest.raises(ValueError, match="unsupported type 'nonsense'"):
        convert_schema_type_to_omero("nonsense", None, "x")


@pytest.mark.parametrize(
    ("kind", "default", "value", "expected"),
    [
        ("integer", 1, "100.0", ("RIntI", 100)), ("float", 1.0, "2.5", ("RFloatI", 2.5)),
        ("Number", 1, 3, ("RIntI", 3)), ("Number", 1.5, 3, ("RFloatI", 3.0)),
        ("boolean", False, "on", ("RBoolI", True)), ("string", "", 5, ("RStringI", "5")),
        ("integer", 7, None, ("RIntI", 7)),
    ],
)  # fmt: skip
def test_values_have_the_type_that_the_field_takes(kind: str, default: Any, value: Any, expected: Any) -> None:
    made = convert_schema_type_to_omero_rtype(kind, default, value)
    assert (type(made).__name__, made.getValue()) == expected


def test_parts_of_addresses_and_of_image_names(client: SlurmClient) -> None:
    parts, version = client.extract_parts_from_url("https://github.com/lab/W_Cells/tree/v1.0")
    assert (parts[3], parts[4], version) == ("lab", "W_Cells", "v1.0")
    assert client.extract_parts_from_url("https://github.com/lab/W_Cells")[1] == "master"
    assert client.extract_parts_from_url("/a/local/folder")[1] == "master"
    with pytest.raises(ValueError, match="names no repository"):
        client.extract_parts_from_url("https://github.com/lab")
    assert client.parse_docker_image_version("lab/cells:v1") == ("v1", "lab/cells")
    assert client.parse_docker_image_version("x:y:z") == (None, "x:y:z")


def test_a_colour_is_checked() -> None:
    run = "00000000-0000-0000-0000-000000000001"
    assert constants.resolve_workflow_color("#d33d17", run) == "#D33D17"
    with pytest.raises(ValueError, match="#RRGGBB"):
        constants.resolve_workflow_color("red", run)


def test_an_instance_is_made_from_names(caplog: pytest.LogCaptureFixture) -> None:
    from biomero.schema_parsers import create_class_instance

    assert create_class_instance("fractions", "Fraction", 1, denominator=2) == 0.5
    assert create_class_instance("fractions", "NoSuchClass") is None
    assert create_class_instance("no_such_module", "Fraction") is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
