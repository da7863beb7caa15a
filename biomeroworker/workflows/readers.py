"""Parse the three formats of descriptors into `Workflow`.

* BIAFLOWS / Cytomine 0.1 (``descriptor.json``), with three additions: ``minimum``, ``maximum`` and ``value-choices`` on
  an input.
* biomero-schema (``schema-version: biomero-0.1``), as in the package of that name.
* bilayers (``config.yaml``): https://github.com/bilayer-containers/bilayers, its specification.

Each reader is a pure function of the descriptor's content. An error is raised as `DescriptorFault` with the field.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from biomeroworker.workflows.descriptor import FOLDER_TYPES, Family, ParameterType, Workflow

Content = Mapping[str, Any]

#: What Python raises for values of a wrong type.
_INVALID = (TypeError, AttributeError, ValueError, KeyError, IndexError, OverflowError, RecursionError)


class DescriptorFault(Exception):
    """A missing or invalid field of a descriptor; ``field`` is its path (``inputs[2].type``)."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


def read(content: Any, origin: str = "") -> Workflow:
    """The workflow of a descriptor of any format; raises only `DescriptorFault`, whatever the content is."""
    if not isinstance(content, Mapping):
        raise DescriptorFault("", "a descriptor is an object with fields, not " + type(content).__name__)
    reader = _reader(content)
    try:
        return Workflow.model_validate({**reader(content), "origin": origin})
    except ValidationError as error:
        first = error.errors()[0]
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise DescriptorFault(_path(first["loc"]), f"{problem} (it is {first['input']!r:.80})") from error
    except _INVALID as error:  # an invalid value that no reader checks disables only this workflow
        raise DescriptorFault("", f"is invalid: {error}") from error


def _reader(content: Content) -> Callable[[Content], dict[str, Any]]:
    version = str(content.get("schema-version") or content.get("schema_version") or "").lower()
    if "cwlVersion" in content:
        raise DescriptorFault("cwlVersion", "CWL descriptors are not supported")
    if "openapi" in str(content.get("$schema", "")).lower():
        raise DescriptorFault("$schema", "OpenAPI descriptors are not supported")
    if version.startswith("cytomine"):
        return _biaflows
    if version.startswith("biomero"):
        return _biomero
    if "docker_image" in content:
        return _bilayers
    if "container-image" in content:
        return _biaflows
    raise DescriptorFault(
        "schema-version", "neither a BIAFLOWS (cytomine-0.1), nor a biomero-schema, nor a bilayers descriptor"
    )


# -- BIAFLOWS and biomero-schema ------------------------------------------------------------------------------------


def _biaflows(content: Content) -> dict[str, Any]:
    """Cytomine's own inputs (host, keys, project, terms) are dropped: a run has no Cytomine server."""
    found = _common(content, Family.BIAFLOWS)
    found["inputs"] = [
        _parameter(one, where)
        for one, where in _located(content, "inputs", needed=True)
        if not str(one.get("id", "")).lower().startswith("cytomine")
    ]
    return found


def _biomero(content: Content) -> dict[str, Any]:
    found = _common(content, Family.BIOMERO)
    found["inputs"] = [_parameter(one, where) for one, where in _located(content, "inputs", needed=True)]
    return found


def _common(content: Content, family: Family) -> dict[str, Any]:
    image = _object(content, "container-image")
    return {
        "name": _needed(content, "name", ""),
        "description": str(content.get("description") or "").strip(),
        "family": family,
        "container_image": _needed(image, "image", "container-image"),
        "container_type": str(image.get("type") or "docker"),
        "type": str(content.get("problem-class") or ""),
        "command_line": str(content.get("command-line") or ""),
        "outputs": [_parameter(one, where) for one, where in _located(content, "outputs")],
        "schema_version": str(content.get("schema-version") or ""),
    }


#: Names of types in descriptors; upper and lower case are equal.
_TYPES = {
    "number": ParameterType.NUMBER,
    "integer": ParameterType.INTEGER,
    "int": ParameterType.INTEGER,
    "float": ParameterType.FLOAT,
    "double": ParameterType.FLOAT,
    "string": ParameterType.STRING,
    "date": ParameterType.STRING,
    "domain": ParameterType.STRING,
    "listdomain": ParameterType.STRING,
    "boolean": ParameterType.BOOLEAN,
    **{
        kind.value: kind
        for kind in (
            ParameterType.IMAGE,
            ParameterType.FILE,
            ParameterType.ARRAY,
            ParameterType.MEASUREMENT,
            ParameterType.EXECUTABLE,
        )
    },
}


def _parameter(one: Content, where: str) -> dict[str, Any]:
    identifier = _needed(one, "id", where)
    kind = _type(_needed(one, "type", where), f"{where}.type")
    key = one.get("value-key")
    return {
        "id": identifier,
        "type": kind,
        "name": _expanded(one.get("name") or "@id", identifier),
        "description": _expanded(one.get("description") or "", identifier),
        "default": _default(one.get("default-value"), kind, f"{where}.default-value"),
        "optional": bool(one.get("optional")),
        "choices": _choices(one.get("value-choices"), f"{where}.value-choices"),
        "choice_labels": _labels(one.get("value-choices"), one.get("value-choices-labels")),
        "minimum": one.get("minimum"),
        "maximum": one.get("maximum"),
        "command_line_flag": _expanded(one.get("command-line-flag", "--@id") or "", identifier),
        "value_key": _expanded(key if key is not None else "[@ID]", identifier),
        "set_by_server": bool(one.get("set-by-server")),
        # OMERO.biomero sends each file that is not an image as a file parameter, whether the descriptor says so or not
        "file_attachment": bool(one.get("file-attachment"))
        or (kind in FOLDER_TYPES and kind is not ParameterType.IMAGE and not one.get("set-by-server")),
        "output_folder": bool(one.get("output-dir-set")),
        "advanced": one.get("mode") == "advanced",
        "formats": _texts(one.get("format")),
        "sub_types": _texts(one.get("sub-type")),
    }


def _expanded(text: Any, identifier: str) -> str:
    """``@id`` is the parameter's id, ``@ID`` the same in capitals (Cytomine's descriptor format)."""
    return str(text).replace("@id", identifier).replace("@ID", identifier.upper())


# -- bilayers -------------------------------------------------------------------------------------------------------

_BILAYERS_TYPES = {
    "checkbox": ParameterType.BOOLEAN,
    "radio": ParameterType.STRING,
    "dropdown": ParameterType.STRING,
    "textbox": ParameterType.STRING,
}


def _bilayers(content: Content) -> dict[str, Any]:
    image = _object(content, "docker_image")
    command = content.get("exec_function")
    command = command if isinstance(command, Mapping) else {}
    command_line = " ".join(_texts(command.get("cli_command")))
    return {
        "name": str(content.get("algorithm_folder_name") or _needed(image, "name", "docker_image")),
        "description": _bilayers_description(content),
        "family": Family.BILAYERS,
        "container_image": _bilayers_image(image),
        "container_type": "docker",
        "command_line": command_line,
        "command": _words(command_line, "exec_function.cli_command"),
        "inputs": _bilayers_inputs(content),
        "outputs": [_bilayers_output(one, where) for one, where in _located(content, "outputs")],
        "fixed_arguments": _hidden(command.get("hidden_args")),
        "schema_version": "bilayers",
    }


def _bilayers_image(image: Content) -> str:
    """``org/name:tag``; organisation and tag are optional."""
    organisation, tag = str(image.get("org") or ""), str(image.get("tag") or "")
    name = f"{organisation}/{_needed(image, 'name', 'docker_image')}".lstrip("/")
    return f"{name}:{tag}" if tag else name


def _bilayers_description(content: Content) -> str:
    """The first description among the citations: a list of them, or in older files an object with lists by kind."""
    citations = content.get("citations")
    if isinstance(citations, Mapping):
        citations = citations.get("algorithm")
    if isinstance(citations, str):
        return citations.strip()
    for one in citations if isinstance(citations, list) else []:
        if isinstance(one, Mapping) and one.get("description"):
            return str(one["description"]).strip()
    return str(content.get("algorithm_description") or "").strip()


def _bilayers_inputs(content: Content) -> list[dict[str, Any]]:
    """Inputs and parameters, and elements of ``display_only`` with a flag of their own."""
    located = [*_located(content, "inputs"), *_located(content, "parameters")]
    inputs = [_bilayers_input(one, where) for one, where in located]
    known = {one["id"] for one in inputs}
    display = [_bilayers_input(one, where) for one, where in _located(content, "display_only")]
    return inputs + [one for one in display if one["command_line_flag"] and one["id"] not in known]


def _bilayers_input(one: Content, where: str) -> dict[str, Any]:
    identifier = _needed(one, "name", where)
    word = str(_needed(one, "type", where)).lower()
    kind = _BILAYERS_TYPES.get(word) or _type(word, f"{where}.type")
    is_file = kind.value in {"image", "file", "array", "measurement", "executable"}
    options = one.get("options")
    return {
        "id": identifier,
        "type": kind,
        "name": str(one.get("label") or identifier),
        "description": str(one.get("description") or ""),
        "default": None if is_file or _is_none(one, kind) else _default(one.get("default"), kind, f"{where}.default"),
        "optional": bool(one.get("optional")),
        "choices": _choices(options, f"{where}.options"),
        "choice_labels": _labels(options, None),
        "command_line_flag": _bilayers_flag(one),
        "set_by_server": is_file or bool(one.get("output_dir_set")),
        "file_attachment": is_file and kind is not ParameterType.IMAGE,
        "several_files": one.get("file_count") == "multiple",
        "output_folder": bool(one.get("output_dir_set")),
        "is_switch": kind is ParameterType.BOOLEAN and not one.get("append_value"),
        "advanced": str(one.get("mode") or "").lower() == "advanced",
        "formats": _texts(one.get("format")),
        "sub_types": _texts(one.get("subtype")),
        "depth": one.get("depth") if kind is ParameterType.IMAGE else None,
        "timepoints": one.get("timepoints") if kind is ParameterType.IMAGE else None,
    }


def _is_none(one: Content, kind: ParameterType) -> bool:
    """Whether the default is Python's None, which YAML reads as text: public files have it for numbers."""
    return one.get("default") == "None" and kind is not ParameterType.STRING


def _bilayers_output(one: Content, where: str) -> dict[str, Any]:
    identifier = _needed(one, "name", where)
    kind = str(_needed(one, "type", where)).lower()
    return {
        "id": identifier,
        "type": _BILAYERS_TYPES.get(kind) or _type(kind, f"{where}.type"),
        "name": str(one.get("label") or identifier),
        "command_line_flag": _bilayers_flag(one),
        "optional": bool(one.get("optional")),
        "formats": _texts(one.get("format")),
        "sub_types": _texts(one.get("subtype")),
    }


def _bilayers_flag(one: Content) -> str:
    """``cli_tag`` without the equals sign at its end; the word None means no flag."""
    tag = str(one.get("cli_tag") or "").strip().removesuffix("=")
    return "" if tag == "None" else tag


def _words(text: str, where: str) -> list[str]:
    """The words of a command line. No shell runs it, so shell syntax is refused."""
    words = _split(text, where)
    if syntax := [word for word in words if word in {"&&", "||", "|", ";", "&", ">", "<", ">>"}]:
        raise DescriptorFault(where, f"{text!r} needs a shell ({syntax[0]})")
    return words


def _split(text: str, where: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DescriptorFault(where, f"{text!r}: {error}") from error


def _hidden(hidden: Any) -> list[str]:
    """Arguments of every run, from a list of ``{cli_tag, value, append_value}``."""
    words: list[str] = []
    for number, one in enumerate(hidden if isinstance(hidden, list) else []):
        where = f"exec_function.hidden_args[{number}]"
        if not isinstance(one, Mapping):
            raise DescriptorFault(where, f"must be an object with cli_tag and value, not {one!r:.80}")
        flag, value = _bilayers_flag(one), one.get("value")
        words += [flag] if flag else []
        if one.get("append_value") and value is not None:
            words += _split(str(value), f"{where}.value") or [""]
    return words


# -- fields ---------------------------------------------------------------------------------------------------------


def _type(word: Any, where: str) -> ParameterType:
    kind = _TYPES.get(str(word).lower())
    if kind is None:
        raise DescriptorFault(where, f"{word!r} is not a type (known are {', '.join(sorted(_TYPES))})")
    return kind


def _default(value: Any, kind: ParameterType, where: str) -> Any:
    """A default with the parameter's type; an empty one is none, except for type string."""
    if value is None or (value == "" and kind is not ParameterType.STRING):
        return None
    if kind in (ParameterType.INTEGER, ParameterType.FLOAT, ParameterType.NUMBER):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DescriptorFault(where, f"{value!r:.80} is not a number") from None
        if kind is ParameterType.FLOAT:
            return number
        if isinstance(value, float) and kind is ParameterType.NUMBER:
            return number
        if not number.is_integer():
            if kind is ParameterType.INTEGER:
                raise DescriptorFault(where, f"{value!r} is not a whole number")
            return number
        return int(number)
    if kind is ParameterType.BOOLEAN:
        word = str(value).strip().lower()
        if word not in {"true", "false", "1", "0", "yes", "no"}:
            raise DescriptorFault(where, f"{value!r} is neither true nor false")
        return word in {"true", "1", "yes"}
    return str(value)


def _choices(given: Any, where: str) -> list[Any]:
    """Values, from a list of them or of ``{label, value}`` (bilayers' options)."""
    if given is None:
        return []
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise DescriptorFault(where, f"must be a list, not {given!r:.80}")
    return [one.get("value", one.get("label")) if isinstance(one, Mapping) else one for one in given]


def _labels(given: Any, labels: Any) -> list[str]:
    if isinstance(labels, Sequence) and not isinstance(labels, str) and labels:
        return [str(value if label is None else label) for value, label in zip(given or (), labels, strict=False)]
    if given and all(isinstance(one, Mapping) for one in given):
        return [str(one.get("label", one.get("value"))) for one in given]
    return []


def _texts(given: Any) -> list[str]:
    if given is None or given == "":
        return []
    return [str(one) for one in given] if isinstance(given, list) else [str(given)]


def _needed(content: Content, field: str, where: str) -> str:
    value = content.get(field)
    if value is None or str(value).strip() == "":
        raise DescriptorFault(f"{where}.{field}".lstrip("."), "is missing")
    return str(value).strip()


def _object(content: Content, field: str, otherwise: Content | None = None) -> Content:
    value = content.get(field, otherwise)
    if value is None and otherwise is not None:
        return otherwise
    if not isinstance(value, Mapping):
        raise DescriptorFault(field, "is missing" if value is None else f"must be an object, not {value!r:.80}")
    return value


def _located(content: Content, field: str, *, needed: bool = False) -> list[tuple[Content, str]]:
    """The objects in a list, each with its path for messages (``inputs[2]``); none if the field is empty."""
    value = content.get(field)
    if value is None and not needed:
        return []
    if not isinstance(value, list):
        raise DescriptorFault(field, "is missing" if value is None else f"must be a list, not {value!r:.80}")
    found = [(one, f"{field}[{number}]") for number, one in enumerate(value)]
    for one, where in found:
        if not isinstance(one, Mapping):
            raise DescriptorFault(where, f"must be an object, not {one!r:.80}")
    return found


def _path(where: Sequence[int | str]) -> str:
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")
