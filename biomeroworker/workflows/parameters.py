"""Check a user's values against the workflow, and turn them into the arguments of the container.

No shell is involved. A value becomes one element of an argument list (or the end of one, after ``--flag=``), and
reaches the container unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from biomeroworker.errors import RequestRejected
from biomeroworker.workflows.descriptor import FOLDER_TYPES, Family, Parameter, ParameterType, Workflow

Value = str | int | float | bool | None

_TRUE = {"true", "yes", "y", "on", "1"}
_FALSE = {"false", "no", "n", "off", "0"}


@dataclass(frozen=True)
class Folders:
    """The folders of inputs and results, as paths inside the container."""

    input: str
    output: str
    ground_truth: str


def validate(
    workflow: Workflow, given: Mapping[str, Any], files: Mapping[str, Sequence[int | str]] = MappingProxyType({})
) -> dict[str, Value]:
    """The typed value of each parameter of the workflow; the default where no value is given.

    A parameter that ``files`` names (with references to files) has no value here: its files get a path later.

    Raises
    ------
    RequestRejected
        With *all* problems, one sentence each: unknown names, wrong types, values out of range or not among the
        choices, missing values.
    """
    problems = []
    values: dict[str, Value] = {}
    known = {parameter.id: parameter for parameter in workflow.parameters}
    for name in given:
        if name not in known:
            problems.append(f"{name}: {workflow.name} has no such parameter (it has {_listed(known)})")
    for name, references in files.items():
        if not (name in known and known[name].file_attachment):
            named = (parameter.id for parameter in known.values() if parameter.file_attachment)
            problems.append(f"{name}: {workflow.name} has no such file parameter (it has {_listed(named)})")
        elif not references:
            problems.append(f"{name}: a file is needed")
        elif name in given:
            problems.append(f"{name}: give a path or files, not both")
    for parameter in known.values():
        if parameter.id in files:
            continue
        value = given.get(parameter.id)
        try:
            values[parameter.id] = _checked(parameter, parameter.default if _is_unset(value, parameter) else value)
        except ValueError as problem:
            problems.append(f"{parameter.id}: {problem}")
    if problems:
        raise RequestRejected("; ".join(problems))
    return values


def arguments(workflow: Workflow, values: Mapping[str, Value], folders: Folders) -> list[str]:
    """The container's arguments for values that `validate` returned.

    BIAFLOWS and biomero-schema containers get ``--infolder --outfolder --gtfolder``, their parameters, and the two
    switches for a run without a Cytomine server (``--local``, ``-nmc``). bilayers containers get the flags that their
    inputs and outputs declare.
    """
    words = []
    if workflow.family is Family.BILAYERS:
        for parameter in workflow.inputs:
            if parameter.type in FOLDER_TYPES and not parameter.file_attachment:
                words += _words(parameter.command_line_flag, folders.input)
            elif parameter.output_folder:
                words += _words(parameter.command_line_flag, folders.output)
        for output in workflow.outputs:
            if output.command_line_flag:
                words += _words(output.command_line_flag, folders.output)
    else:
        words += ["--infolder", folders.input, "--outfolder", folders.output, "--gtfolder", folders.ground_truth]
    for parameter in workflow.parameters:
        value = values.get(parameter.id)
        if value is None:
            continue
        if isinstance(value, bool) and parameter.is_switch:
            words += [parameter.command_line_flag] if value else []
        else:
            words += _words(parameter.command_line_flag, _text(parameter, value))
    words += workflow.fixed_arguments
    if workflow.family is not Family.BILAYERS:
        words += ["--local", "-nmc"]
    return words


def _words(flag: str, text: str) -> list[str]:
    """``--flag=text`` as one word, so that text with a leading dash is still a value; two words for short flags."""
    if not flag:
        return [text]
    return [f"{flag}={text}"] if flag.startswith("--") else [flag, text]


def _text(parameter: Parameter, value: Value) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    # A "Number" that is whole is written without a point: many containers hand it to an integer parser.
    if isinstance(value, float) and parameter.type is ParameterType.NUMBER and value.is_integer():
        return str(int(value))
    return str(value)


def _is_unset(value: Any, parameter: Parameter) -> bool:
    """Whether there is no value. An empty field of a dialog counts as none, except for parameters of type string."""
    return value is None or (value == "" and parameter.type is not ParameterType.STRING)


def _checked(parameter: Parameter, value: Any) -> Value:
    """The typed value; raises ValueError with the rest of a sentence that starts with the parameter's id."""
    if _is_unset(value, parameter):
        if parameter.optional:
            return None
        raise ValueError("a value is needed")
    typed = _typed(parameter.type, value)
    if isinstance(typed, str) and "\0" in typed:
        raise ValueError("text must not contain a NUL character")
    if isinstance(typed, int | float) and not isinstance(typed, bool):
        if parameter.minimum is not None and typed < parameter.minimum:
            raise ValueError(f"{_plain(typed)} is below the minimum {_plain(parameter.minimum)}")
        if parameter.maximum is not None and typed > parameter.maximum:
            raise ValueError(f"{_plain(typed)} is above the maximum {_plain(parameter.maximum)}")
    if parameter.choices and typed not in parameter.choices and str(typed) not in map(str, parameter.choices):
        raise ValueError(f"{typed!r} is not one of {_listed(parameter.choices)}")
    return typed


def _typed(kind: ParameterType, value: Any) -> Value:
    match kind:
        case ParameterType.BOOLEAN:
            return _boolean(value)
        case ParameterType.INTEGER:
            return _integer(value)
        case ParameterType.FLOAT:
            return float(_number(value))
        case ParameterType.NUMBER:
            return _number(value)
        case _:
            if isinstance(value, dict | list | tuple | set | bytes):
                raise ValueError(f"{value!r} is not text")
            return str(value)


def _boolean(value: Any) -> bool:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _integer(value: Any) -> int:
    number = _number(value)
    if isinstance(number, float):
        if not number.is_integer():
            raise ValueError(f"{_plain(number)} is not a whole number")
        return int(number)
    return number


def _number(value: Any) -> int | float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    if isinstance(value, int):
        return value
    try:
        number = float(value) if isinstance(value, float) or not _is_whole(value) else int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def _is_whole(value: Any) -> bool:
    text = str(value).strip()
    return text.lstrip("+-").isascii() and text.lstrip("+-").isdigit()


def _plain(number: float) -> str:
    return f"{number:.15g}"


def _listed(things: Iterable[Any]) -> str:
    return ", ".join(map(str, things)) or "none"
