"""Descriptors, under the module name that scripts know."""

from typing import Any

from biomero_schema.models import (
    BIOMERO_SCHEMA_VERSION,
    Author,
    Citation,
    ContainerImage,
    Institution,
    OutputParameter,
    Parameter,
    WorkflowSchema,
)

from biomero.compat import removed
from biomero.compat.schema import (
    DescriptorParserFactory,
    WorkflowDescriptorParser,
    convert_schema_type_to_omero,
    convert_schema_type_to_omero_rtype,
    create_class_instance,
    detect_schema_format,
)

__all__ = [
    "BIOMERO_SCHEMA_VERSION",
    "Author",
    "Citation",
    "ContainerImage",
    "DescriptorParserFactory",
    "Institution",
    "OutputParameter",
    "Parameter",
    "ParsedWorkflowDescriptor",
    "WorkflowDescriptorParser",
    "WorkflowSchema",
    "convert_schema_type_to_omero",
    "convert_schema_type_to_omero_rtype",
    "create_class_instance",
    "detect_schema_format",
]

#: A parsed descriptor is the model of biomero-schema.
ParsedWorkflowDescriptor = WorkflowSchema


def __getattr__(name: str) -> Any:
    raise removed.missing(__name__, name, removed.PARSERS)
