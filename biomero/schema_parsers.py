"""Descriptors, under the module name that scripts know."""

from typing import Any

from biomeroworker.scripting import dropped
from biomeroworker.scripting.schema import (
    DescriptorParserFactory,
    ParsedWorkflowDescriptor,
    WorkflowDescriptorParser,
    convert_schema_type_to_omero,
    convert_schema_type_to_omero_rtype,
    detect_schema_format,
)

__all__ = [
    "DescriptorParserFactory",
    "ParsedWorkflowDescriptor",
    "WorkflowDescriptorParser",
    "convert_schema_type_to_omero",
    "convert_schema_type_to_omero_rtype",
    "detect_schema_format",
]


def __getattr__(name: str) -> Any:
    raise dropped.missing(__name__, name, dropped.PARSERS)
