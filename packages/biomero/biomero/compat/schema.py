"""Descriptors for scripts: biomero-schema's form as plain data, and the functions of ``biomero.schema_parsers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biomero.compat import fields
from biomeroworker.domain.constants import schema_formats
from biomeroworker.workflows import readers
from biomeroworker.workflows.descriptor import Family, Parameter, Workflow

_FORMATS = {
    Family.BIAFLOWS: schema_formats.BIAFLOWS,
    Family.BIOMERO: schema_formats.BIOMERO_SCHEMA,
    Family.BILAYERS: schema_formats.BILAYERS,
}


def read(descriptor_data: Any) -> Workflow:
    """A descriptor of any format; ValueError with the field that is wrong."""
    try:
        return readers.read(descriptor_data)
    except readers.DescriptorFault as error:
        raise ValueError(str(error)) from error


def detect_schema_format(descriptor_data: Any) -> str:
    """The format of a descriptor, as `schema_formats` names it; ValueError if unknown."""
    return _FORMATS[read(descriptor_data).family]


class WorkflowDescriptorParser:
    """Reads descriptors."""

    @staticmethod
    def parse_descriptor(descriptor_data: Mapping[str, Any], name: str | None = None) -> Workflow:
        """A descriptor of any format, as one model; ValueError if it is invalid."""
        workflow = read(descriptor_data)
        return workflow.model_copy(update={"name": name}) if name else workflow


def convert_schema_type_to_omero(
    schema_type: str, default_value: Any, *args: Any, rtype: bool = False, **kwargs: Any
) -> Any:
    """A field of a script's dialog for a type of biomero-schema, made from the remaining arguments.

    With ``rtype``, the first of these as an ``omero.rtypes`` value; the default if there is none.
    """
    if rtype:
        return fields.value(schema_type, default_value, args[0] if args else default_value)
    fields.check(schema_type)
    return fields.field(schema_type, default_value, *args, **kwargs)


def convert_schema_type_to_omero_rtype(schema_type: str, default_value: Any, value: Any) -> Any:
    """A value of that type as OMERO's clients send it; the default where there is none."""
    return fields.value(schema_type, default_value, default_value if value is None else value)


def as_biomero_schema(workflow: Workflow) -> dict[str, Any]:
    """A workflow in the form of biomero-schema 0.1, keys as in its files."""
    versions = {Family.BILAYERS: "bilayers-1.0.0"}
    return {
        "name": workflow.name,
        "description": workflow.description,
        "schema-version": versions.get(workflow.family, "biomero-0.1"),
        "problem-class": workflow.type or None,
        "container-image": {"image": workflow.container_image, "type": workflow.container_type},
        "command-line": workflow.command_line,
        "inputs": [_parameter(one) for one in workflow.inputs],
        "outputs": [_parameter(one) for one in workflow.outputs],
    }


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "id": one.id,
        "type": fields.kind_of(one.type.value, one.default),
        "name": one.name,
        "description": one.description,
        "value-key": one.value_key,
        "command-line-flag": one.command_line_flag,
        "default-value": one.default,
        "optional": one.optional,
        "set-by-server": one.set_by_server,
        "value-choices": list(one.choices) or None,
        "value-choices-labels": list(one.choice_labels) or None,
        "output-dir-set": one.output_folder,
        "file-attachment": one.file_attachment,
        "mode": "advanced" if one.advanced else "beginner",
        "format": list(one.formats) or None,
        "sub-type": list(one.sub_types) or None,
        "minimum": one.minimum,
        "maximum": one.maximum,
    }


#: A parsed descriptor is a `Workflow`.
ParsedWorkflowDescriptor = Workflow
DescriptorParserFactory = WorkflowDescriptorParser
