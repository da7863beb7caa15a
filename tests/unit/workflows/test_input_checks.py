"""Images that a workflow cannot take are refused before any is moved, by name and condition."""

from __future__ import annotations

from typing import Any

import pytest

from biomeroworker.domain.manifest import InputFile, InputImage
from biomeroworker.errors import Permanent
from biomeroworker.workflows import input_checks, readers
from biomeroworker.workflows.descriptor import Family, Parameter, ParameterType, Workflow


def image(
    number: int, *, t: int = 1, c: int = 1, z: int = 1, kind: str = "image", y: int = 9, pixels: str = "uint8"
) -> InputImage:
    key = f"{kind}-{number}"
    return InputImage(
        key=key, path=f"{key}.ome.zarr", name=f"name {number}", shape=(t, c, z, y, 9), pixel_type=pixels
    )  # fmt: skip


def workflow(*inputs: dict[str, Any]) -> Workflow:
    images = tuple(
        Parameter(id=f"in{number}", name="in", type=ParameterType.IMAGE, **one) for number, one in enumerate(inputs)
    )
    return Workflow(name="flat", family=Family.BILAYERS, container_image="a/b:1", inputs=images)


FLAT = workflow({"depth": False, "timepoints": False})


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"z": 5}, r"flat accepts no more than one of planes \(Z\), but name 2 \(image-2\) has 5"),
        ({"t": 3}, r"flat accepts no more than one of time points \(T\), but name 2 \(image-2\) has 3"),
    ],
)
def test_images_that_a_workflow_does_not_accept_are_refused(shape: dict[str, int], words: str) -> None:
    with pytest.raises(Permanent, match=words):
        input_checks.check(FLAT, [image(1, c=4), image(2, **shape)])


def test_channels_are_accepted_by_all_workflows() -> None:
    input_checks.check(FLAT, [image(1, c=9)])


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [{}],
        [{"depth": True, "timepoints": True}],
        [{"depth": False, "timepoints": False}, {}],  # one of two inputs takes them
        [{"sub_types": ("2D", "3D")}],
        [{"sub_types": ("plate", "grayscale")}],
    ],
)
def test_without_a_declaration_all_images_are_accepted(inputs: list[dict[str, Any]]) -> None:
    input_checks.check(workflow(*inputs), [image(1, t=2, c=2, z=2)])


def test_a_sub_type_2d_accepts_no_stack() -> None:
    input_checks.check(workflow({"sub_types": ("2d",)}), [image(1, t=2)])
    with pytest.raises(Permanent, match="planes"):
        input_checks.check(workflow({"sub_types": ("2d",)}), [image(1, z=2)])


def test_a_message_names_some_of_many_images() -> None:
    with pytest.raises(Permanent, match=r"name 3 .* has 2, and 7 more"):
        input_checks.check(FLAT, [image(number, z=2) for number in range(1, 11)])


def test_depth_and_timepoints_of_bilayers_are_applied() -> None:
    described = {
        "docker_image": {"org": "a", "name": "b", "tag": "1"},
        "algorithm_folder_name": "flat",
        "exec_function": {"name": "x", "cli_command": "run"},
        "inputs": [
            {"name": "in", "type": "image", "label": "in", "cli_tag": "--in", "depth": False, "timepoints": True}
        ],
    }
    found = readers.read(described)
    input_checks.check(found, [image(1, t=2)])
    with pytest.raises(Permanent, match="planes"):
        input_checks.check(found, [image(1, z=2)])


def test_a_workflow_for_plates_refuses_images() -> None:
    plates = workflow({"sub_types": ("plate",)})
    input_checks.check(plates, [image(1, kind="plate")])
    with pytest.raises(Permanent, match=r"works on whole plates, but name 2 \(image-2\) is not a plate") as refused:
        input_checks.check(plates, [image(1, kind="plate"), image(2)])
    assert "choose plates" in refused.value.hint


@pytest.mark.parametrize(
    ("conditions", "shape", "words"),
    [
        ("channels: 1-3", {"c": 5}, r"channels: 1-3, but name 2 \(image-2\) has 5 channels"),
        ("dimensions: 2D", {"z": 5}, r"dimensions: 2D, but name 2 \(image-2\) has 5 planes \(Z\)"),
        ("timepoints: 1", {"t": 2}, r"has 2 time points"),
        ("planes: 1-4", {"z": 5}, r"has 5 planes"),
        ("pixel types: uint8, int8", {"pixels": "uint16"}, r"has pixels of type uint16"),
        ("max pixels: 100", {"y": 12}, r"has 9 x 12 = 108 pixels in a plane"),
        ("inputs: images", {"kind": "plate"}, r"name 2 \(plate-2\) is a plate"),
        ("channels: 1; dimensions: 2D", {"z": 2}, r"dimensions: 2D"),
    ],
)
def test_images_that_the_configuration_excludes_are_refused(conditions: str, shape: dict[str, Any], words: str) -> None:
    input_checks.check(workflow({}), [image(1)], conditions)
    with pytest.raises(Permanent, match=words) as refused:
        input_checks.check(workflow({}), [image(1), image(2, **shape)], conditions)
    assert "choose other images" in refused.value.hint
    input_checks.check(workflow({}), [image(1), image(2, **shape)])


def test_a_file_of_another_format_than_the_descriptor_names_is_refused() -> None:
    weights = Parameter(id="weights", name="W", type=ParameterType.FILE, file_attachment=True, formats=("npz", ".H5"))
    described = workflow({}).model_copy(update={"inputs": (weights,)})
    for name in ("a.npz", "a.NPZ", "b.h5"):
        input_checks.check_files(described, [InputFile(parameter="weights", path="files/p1/a", name=name, size=1)])
    with pytest.raises(Permanent, match=r"weights: .* accepts \.npz, \.h5, but the file is a\.txt"):
        input_checks.check_files(described, [InputFile(parameter="weights", path="files/p1/a", name="a.txt", size=1)])
