"""Descriptors, under the module name that scripts know."""

from typing import Any

from biomero.compat import removed
from biomero.compat.schema import (
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
    raise removed.missing(__name__, name, removed.PARSERS)
