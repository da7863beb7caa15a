"""Descriptors for scripts: the model of biomero-schema, and the functions of ``biomero.schema_parsers``."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from biomero.compat import fields, removed
from biomeroworker.domain.constants import schema_formats
from biomeroworker.workflows import readers
from biomeroworker.workflows.descriptor import Family, Parameter, ParameterType, Workflow

if TYPE_CHECKING:
    from biomero_schema.models import WorkflowSchema

logger = logging.getLogger(__name__)

#: What biomero has for descriptors that name no author and no citation.
_NO_AUTHORS = [{"name": "Unknown", "email": None}]
_NO_CITATIONS = [
    {"name": "Unknown Tool", "license": "Unknown", "description": "No citation information available"}
]  # fmt: skip
_CONTAINER_TYPES = ("oci", "singularity", "docker")
#: Up to here, OMERO's Float holds every whole number.
_FLOAT_LIMIT = 2**24
_SCHEMA_VERSIONS = {Family.BILAYERS: "bilayers-1.0.0"}


def read(descriptor_data: Any) -> Workflow:
    """A descriptor of any format; ValueError with the field that is wrong."""
    try:
        return readers.read(descriptor_data)
    except readers.DescriptorFault as error:
        raise ValueError(str(error)) from error


def detect_schema_format(descriptor_data: Mapping[str, Any]) -> str:
    """The format of a descriptor or of a part of one: ``BIAFLOWS``, ``biomero-schema`` or ``bilayers``.

    Raises
    ------
    ValueError
        The format is CWL, OpenAPI or unknown.

    Examples
    --------
    >>> detect_schema_format({"docker_image": {"name": "cellpose"}})
    'bilayers'
    """
    if "cwlVersion" in descriptor_data:
        raise ValueError("CWL descriptors are not supported")
    if "openapi" in str(descriptor_data.get("$schema", "")).lower():
        raise ValueError("OpenAPI descriptors are not supported")
    version = str(descriptor_data.get("schema-version") or "").lower()
    if version.startswith("biomero"):
        return schema_formats.BIOMERO_SCHEMA
    if version.startswith("cytomine") or {"container-image", "inputs"} <= set(descriptor_data):
        return schema_formats.BIAFLOWS
    if "docker_image" in descriptor_data:
        return schema_formats.BILAYERS.lower()
    raise ValueError(
        f"the format of the descriptor is unknown; it has {', '.join(map(str, descriptor_data)) or 'no key'}"
    )


class WorkflowDescriptorParser:
    """Reads descriptors of all formats."""

    @classmethod
    def parse_descriptor(cls, descriptor_data: Mapping[str, Any], name: str | None = None) -> WorkflowSchema:
        """A descriptor of any format, as the model of biomero-schema.

        Parameters
        ----------
        name
            Accepted for code written for biomero, without effect.

        Raises
        ------
        ValueError
            The format is unknown, or a field is wrong.

        Examples
        --------
        >>> parsed = WorkflowDescriptorParser.parse_descriptor({
        ...     "name": "cells", "schema-version": "cytomine-0.1", "container-image": {"image": "lab/cells"},
        ...     "inputs": [{"id": "size", "type": "Number", "default-value": 5}],
        ... })
        >>> parsed.container_image.image, parsed.inputs[0].type, parsed.requires_zarr
        ('lab/cells', 'integer', False)
        """
        detect_schema_format(descriptor_data)
        return as_schema(read(descriptor_data), descriptor_data)

    @classmethod
    def register_adapter(cls, schema_format: str, adapter_class: type) -> None:
        """Raise an error: formats are not added from outside."""
        raise removed.missing(cls.__name__, "register_adapter", removed.PARSERS)


def as_schema(workflow: Workflow, content: Mapping[str, Any]) -> WorkflowSchema:
    """A workflow in the model of biomero-schema.

    Parameters
    ----------
    content
        Its descriptor, for what `Workflow` does not have: authors, citations, the words of formats.
    """
    from biomero_schema.models import WorkflowSchema  # makes its models when it is imported, which takes 0.1 s

    if workflow.family is Family.BIOMERO:
        try:
            return WorkflowSchema.model_validate(content)
        except ValidationError:
            pass  # the reader is more tolerant: it needs no citation
    made = as_biomero_schema(workflow, content)
    try:
        return WorkflowSchema.model_validate(made)
    except ValidationError:  # a problem class of its own
        return WorkflowSchema.model_validate({**made, "problem-class": None})


def describe(workflow: Workflow, content: Mapping[str, Any]) -> dict[str, Any]:
    """The same as plain data, with the keys of descriptor files, the bounds that an input has, and `dialog_type`."""
    described: dict[str, Any] = as_schema(workflow, content).model_dump(by_alias=True)
    inputs = {one.id: one for one in workflow.inputs}
    for one in described["inputs"]:
        if known := inputs.get(one["id"]):
            bounds = {"minimum": known.minimum, "maximum": known.maximum}
            one.update({key: value for key, value in bounds.items() if value is not None})
            one["type"] = dialog_type(known)
    return described


def dialog_type(parameter: Parameter) -> str:
    """The type of a parameter for a dialog.

    A BIAFLOWS ``Number`` is a float, so that 12.5 can be entered though the default is 5; an integer only if it has
    whole choices, or a number that OMERO's Float (32 bits) cannot hold.
    """
    if parameter.type is not ParameterType.NUMBER:
        return parameter.type.value
    numbers = [parameter.default, parameter.minimum, parameter.maximum, *parameter.choices]
    known = [float(one) for one in numbers if one is not None]
    whole = all(one.is_integer() for one in known)
    return "integer" if whole and (parameter.choices or any(abs(one) >= _FLOAT_LIMIT for one in known)) else "float"


def create_class_instance(module_name: str, class_name: str, *args: Any, **kwargs: Any) -> Any:
    """An instance of a class; None, with a line in the log, if the module or the class does not exist."""
    try:
        made = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        logger.error("no class %s.%s: %s", module_name, class_name, error)
        return None
    return made(*args, **kwargs)


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


def as_biomero_schema(workflow: Workflow, content: Mapping[str, Any]) -> dict[str, Any]:
    """A workflow in the form of biomero-schema 0.1, keys as in its files."""
    citations = _citations(content) or _NO_CITATIONS
    bilayers = workflow.family is Family.BILAYERS
    words = {str(one.get("id") or one.get("name")): one for key in _PARTS for one in content.get(key) or ()}
    kind = workflow.container_type
    return {
        "name": str((bilayers and citations[0].get("name")) or workflow.name),
        "description": workflow.description,
        "schema-version": _SCHEMA_VERSIONS.get(workflow.family, "biomero-0.1"),
        "authors": content.get("authors") or _NO_AUTHORS,
        "institutions": content.get("institutions") or [],
        "citations": citations,
        "problem-class": workflow.type or None,
        "configuration": content.get("configuration"),
        "container-image": {
            "image": workflow.container_image,
            "type": kind if kind in _CONTAINER_TYPES else "docker",
        },
        "command-line": workflow.command_line,
        "inputs": [_parameter(one, words.get(one.id, {})) for one in workflow.inputs],
        "outputs": [_parameter(one, words.get(one.id, {})) for one in workflow.outputs],
    }


_PARTS = ("inputs", "parameters", "display_only", "outputs")


def _citations(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The citations as biomero-schema has them: each with a name and a license."""
    listed = content.get("citations")
    if isinstance(listed, Mapping):  # the older form of bilayers
        listed = listed.get("algorithm")
    found = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    return [
        {
            "name": str(one.get("name") or "Unknown Tool"),
            "doi": one.get("doi"),
            "license": str(one.get("license") or "Unknown"),
            "description": one.get("description"),
        }
        for one in found
    ]


def _parameter(one: Parameter, words: Mapping[str, Any]) -> dict[str, Any]:
    labels = list(one.choice_labels)
    return {
        "id": one.id,
        "type": fields.kind_of(one.type.value, one.default),
        "name": one.name,
        "description": one.description,
        "value-key": one.value_key or one.id.upper(),
        "command-line-flag": one.command_line_flag or None,
        # of the type of the choices, which a dialog compares it with
        "default-value": next((choice for choice in one.choices if str(choice) == str(one.default)), one.default),
        "optional": one.optional,
        "set-by-server": one.set_by_server,
        "value-choices": list(one.choices) or None,
        "value-choices-labels": labels if labels and labels != [str(choice) for choice in one.choices] else None,
        "output-dir-set": one.output_folder,
        "file-attachment": one.file_attachment,
        "file-count": words.get("file-count") or words.get("file_count"),
        "mode": words.get("mode"),
        "format": words.get("format"),
        "sub-type": words.get("sub-type") or words.get("subtype"),
    }


DescriptorParserFactory = WorkflowDescriptorParser
