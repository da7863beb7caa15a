"""The fields of one workflow in the dialog. Types, bounds, choices, defaults and help come from its descriptor.

Bounds are in a field's description and not in the field, because OMERO would refuse a value outside of them with a
message that does not name the bounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import omero.clients
import omero.scripts
from omero.rtypes import rfloat, rlong, rstring, rtype

from biomeroworker.omero.scripts.names import file_name, parameter_name, version_name
from biomeroworker.workflows.descriptor import Parameter, ParameterType, Workflow

log = logging.getLogger(__name__)

_24_BITS = 2**24
_32_BITS = 2**31


def workflow_fields(group: str, name: str, described: Workflow, versions: Sequence[str]) -> list[Any]:
    """The fields of one workflow: the parameters in the order of the descriptor, advanced ones and the version last.

    A parameter that OMERO cannot represent is left out and logged.

    Parameters
    ----------
    group
        The grouping of the field that selects the workflow.
    """
    fields = [
        omero.scripts.Bool(
            name,
            optional=True,
            grouping=group,
            default=False,
            description=f"Tick to run {described.name}. {described.description}".strip(),
        )
    ]
    ordered = sorted(described.parameters, key=lambda parameter: parameter.advanced)
    width = len(str(len(ordered) + 1))
    for number, parameter in enumerate(ordered, start=1):
        grouping = f"{group}.{number:0{width}d}"
        try:
            if parameter.file_attachment:
                fields.append(_file_field(grouping, file_name(name, parameter.id), parameter))
            elif parameter.type in _FIELD_TYPES:
                fields.append(_field(grouping, parameter_name(name, parameter.id), parameter))
        except (ValueError, TypeError) as error:
            log.warning("parameter %s of workflow %s is left out of the dialog: %s", parameter.id, name, error)
    return [*fields, _version_field(f"{group}.{len(ordered) + 1:0{width}d}", name, described, versions)]


def _version_field(grouping: str, name: str, described: Workflow, versions: Sequence[str]) -> Any:
    choice: dict[str, Any] = {"values": [rstring(one) for one in versions]} if versions else {}
    tag = described.container_image.rpartition(":")[2] if ":" in described.container_image.rpartition("/")[2] else ""
    if tag and (tag in versions if versions else tag != "latest"):
        choice["default"] = tag
    return omero.scripts.String(
        version_name(name),
        optional=True,
        grouping=grouping,
        description="Version of the container. Empty: the newest on the cluster.",
        **choice,
    )


@dataclass(frozen=True)
class _FieldType:
    """A type of field of ``omero.scripts``: its name, the Python type of its values, and how a choice is wrapped."""

    name: str
    convert: Callable[[Any], Any]
    wrap: Callable[[Any], Any] = rtype


_STRING = _FieldType("String", str)
_INT = _FieldType("Int", int)
_LONG = _FieldType("Long", int)
_FLOAT = _FieldType("Float", float, rfloat)
_BOOL = _FieldType("Bool", bool)
_FIELD_TYPES: Mapping[ParameterType, _FieldType] = {
    ParameterType.STRING: _STRING,
    ParameterType.INTEGER: _INT,
    ParameterType.FLOAT: _FLOAT,
    ParameterType.NUMBER: _FLOAT,
    ParameterType.BOOLEAN: _BOOL,
}


def _field_type(parameter: Parameter) -> _FieldType:
    """Int for a number that is whole and either chosen or too large for the 24 bits of a Float; Long beyond 32 bits."""
    found = _FIELD_TYPES[parameter.type]
    given = (parameter.default, parameter.minimum, parameter.maximum, *parameter.choices)
    numbers = [float(number) for number in given if isinstance(number, int | float)]
    largest = max(map(abs, numbers), default=0)
    if parameter.type is ParameterType.NUMBER and all(_whole(number) for number in given if number is not None):
        # without choices a Float also takes 12.5, whatever the default is
        found = _INT if parameter.choices or largest >= _24_BITS else found
    return _LONG if found is _INT and largest >= _32_BITS else found


def _field(grouping: str, name: str, parameter: Parameter) -> Any:
    kind = _field_type(parameter)
    settings: dict[str, Any] = {}
    if parameter.default is not None and (not parameter.choices or parameter.default in parameter.choices):
        settings["default"] = kind.convert(parameter.default)
    if parameter.choices:
        settings["values"] = [kind.wrap(kind.convert(choice)) for choice in parameter.choices]
    # optional, because only the workflows that are selected need their parameters
    return getattr(omero.scripts, kind.name)(
        name, optional=True, grouping=grouping, description=help_text(parameter), **settings
    )


def _file_field(grouping: str, name: str, parameter: Parameter) -> Any:
    description = f"{help_text(parameter)} IDs of file annotations (attachments in OMERO), separated by commas."
    return omero.scripts.List(name, optional=True, grouping=grouping, description=description).ofType(rlong(0))


def _whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer()


def help_text(parameter: Parameter) -> str:
    """The help of a field: the description, the bounds, the meaning of the choices, and whether a value is needed."""
    sentences = [parameter.description or parameter.name]
    if bounds := bounds_text(parameter):
        sentences.append(bounds)
    labels = [
        f"{choice}: {label}"
        for choice, label in zip(parameter.choices, parameter.choice_labels, strict=False)
        if label != str(choice)
    ]
    if labels:
        sentences.append(", ".join(labels))
    if parameter.file_attachment and parameter.formats:
        sentences.append(f"Formats: {', '.join(parameter.formats)}")
    if not parameter.optional and parameter.default is None:
        sentences.append("A value is needed")
    return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in map(str.strip, sentences))


def bounds_text(parameter: Parameter) -> str:
    """The bounds as text; empty if there are none."""
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"At least {low:g}"
    return "" if high is None else f"At most {high:g}"
