"""Values are typed and bounded; all problems are named at once; arguments are exact."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biomeroworker.errors import RequestRejected
from biomeroworker.workflows.descriptor import Family, Parameter, ParameterType, Workflow
from biomeroworker.workflows.parameters import Folders, arguments, validate

FOLDERS = Folders(input="/r/in", output="/r/out", ground_truth="/r/gt")


def workflow(*parameters: Parameter, family: Family = Family.BIAFLOWS) -> Workflow:
    return Workflow(name="W", family=family, container_image="lab/w:v1", inputs=parameters)


def parameter(identifier: str, kind: ParameterType, **more: Any) -> Parameter:
    return Parameter(id=identifier, type=kind, name=identifier, command_line_flag=f"--{identifier}", **more)


NUCLEI = workflow(
    parameter("diameter", ParameterType.NUMBER, default=30, minimum=0, maximum=200),
    parameter("passes", ParameterType.INTEGER, default=2),
    parameter("csv", ParameterType.BOOLEAN, default=True),
    parameter("model", ParameterType.STRING, choices=("a", "b"), default="a"),
    parameter("note", ParameterType.STRING, optional=True),
    parameter("needed", ParameterType.FLOAT),
)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(RequestRejected) as caught:
        validate(NUCLEI, {"diameter": 900, "passes": "2.5", "csv": "perhaps", "model": "c", "colour": 1})
    message = str(caught.value)
    for sentence in (
        "diameter: 900 is above the maximum 200",
        "passes: 2.5 is not a whole number",
        "csv: 'perhaps' is neither true nor false",
        "model: 'c' is not one of a, b",
        "colour: W has no such parameter (it has diameter, passes, csv, model, note, needed)",
        "needed: a value is needed",
    ):
        assert sentence in message


def test_values_are_typed_and_defaults_filled_in() -> None:
    values = validate(NUCLEI, {"diameter": "12.5", "passes": 3.0, "csv": "False", "needed": "1e-3"})
    assert values == {"diameter": 12.5, "passes": 3, "csv": False, "model": "a", "note": None, "needed": 0.001}
    assert type(values["passes"]) is int


@pytest.mark.parametrize("value", ["nan", "inf", float("-inf"), True, "five", [1], None])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(RequestRejected, match="needed: "):
        validate(NUCLEI, {"needed": value})


def test_an_empty_dialog_field_is_no_value() -> None:
    assert validate(NUCLEI, {"diameter": "", "needed": 1})["diameter"] == 30


def test_biaflows_gets_folders_parameters_and_its_switches() -> None:
    values = validate(NUCLEI, {"needed": 2, "diameter": 40.0})
    assert arguments(NUCLEI, values, FOLDERS) == [
        "--infolder", "/r/in", "--outfolder", "/r/out", "--gtfolder", "/r/gt",
        "--diameter=40", "--passes=2", "--csv=True", "--model=a", "--needed=2.0",
        "--local", "-nmc",
    ]  # fmt: skip


def test_a_value_of_type_float_has_a_decimal_point() -> None:
    assert "--needed=40.0" in arguments(NUCLEI, validate(NUCLEI, {"needed": 40}), FOLDERS)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
def test_any_text_arrives_as_one_word(text: str) -> None:
    long, short = workflow(parameter("note", ParameterType.STRING, default="")), None
    assert arguments(long, validate(long, {"note": text}), FOLDERS)[6] == f"--note={text}"
    short = workflow(Parameter(id="n", type=ParameterType.STRING, name="n", command_line_flag="-n", default=""))
    assert arguments(short, validate(short, {"n": text}), FOLDERS)[6:8] == ["-n", text]


def test_a_nul_character_is_refused() -> None:
    with pytest.raises(RequestRejected, match="NUL"):
        validate(NUCLEI, {"note": "a\0b", "needed": 1})


def test_a_user_cannot_set_an_input_of_the_server() -> None:
    mine = workflow(parameter("image", ParameterType.IMAGE, set_by_server=True))
    with pytest.raises(RequestRejected, match="no such parameter"):
        validate(mine, {"image": "x"})


def with_files() -> Workflow:
    file = {"type": ParameterType.FILE, "file_attachment": True}
    return Workflow(
        name="W",
        family=Family.BIAFLOWS,
        container_image="lab/w",
        inputs=(
            Parameter(id="model", name="M", command_line_flag="--model", **file),
            Parameter(id="extra", name="E", optional=True, **file),
            Parameter(id="text", name="T", type=ParameterType.STRING, optional=True),
        ),
    )


def test_a_file_parameter_has_its_value_in_the_files_of_the_request() -> None:
    values = validate(with_files(), {"text": "a"}, {"model": (4,)})
    assert values == {"extra": None, "text": "a"}
    words = arguments(with_files(), {**values, "model": "/run/files/p1/m"}, Folders("/in", "/out", "/gt"))
    assert "--model=/run/files/p1/m" in words


@pytest.mark.parametrize(
    ("given", "files", "message"),
    [
        ({}, {}, "model: a value is needed"),
        ({}, {"model": ()}, "model: a file is needed"),
        ({}, {"model": (1,), "modle": (2,)}, r"modle: W has no such file parameter \(it has model, extra\)"),
        ({}, {"model": (1,), "text": (2,)}, "text: W has no such file parameter"),
        ({"model": "/x"}, {"model": (1,)}, "model: give a path or files, not both"),
    ],
)
def test_wrong_files_are_refused_by_the_name_of_their_parameter(
    given: dict[str, Any], files: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(RequestRejected, match=message):
        validate(with_files(), given, files)
