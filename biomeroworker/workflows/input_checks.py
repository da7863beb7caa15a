"""Check that a workflow accepts its input images, before anything is computed. Pure.

There are two sources of conditions:

* The descriptor. The axes of an image input are declared with ``depth`` and ``timepoints`` (bilayers: whether it
  accepts more than one plane or time point), or with sub-types (BIAFLOWS and biomero-schema: ``2D``, ``3D``). The
  sub-type ``plate`` without another one means that the workflow works on whole plates only.
* The key ``<workflow>_accepts`` of the configuration, see `biomeroworker.domain.accepts`.

Without a condition all images are accepted: the converter drops no axis, so the workflow itself reports what it does
not support. Of a plate, the first field is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from biomeroworker.domain import accepts
from biomeroworker.domain.manifest import InputFile, InputImage
from biomeroworker.domain.summary import first_of
from biomeroworker.errors import Permanent
from biomeroworker.workflows.descriptor import Parameter, ParameterType, Workflow

#: Number of images that a message names.
_NAMED = 3
_OTHER_IMAGES = "choose other images, or another workflow"


def check(workflow: Workflow, images: Iterable[InputImage], conditions: str = "") -> None:
    """Raise `Permanent`, with the images and the condition, if the workflow does not accept all of the images.

    Parameters
    ----------
    conditions
        The value of ``<workflow>_accepts``; empty for none.
    """
    checked = list(images)
    _check_plates(workflow, checked)
    _check_axes(workflow, checked)
    for condition in accepts.parse(conditions):
        if unfit := [image for image in checked if not condition.fits(image)]:
            raise Permanent(
                f"{workflow.name} accepts only images with {condition}, but {_names(unfit, condition.describe)}",
                hint=_OTHER_IMAGES,
            )


def check_files(workflow: Workflow, files: Iterable[InputFile]) -> None:
    """Raise `Permanent` if a file of a file parameter has none of the formats that the descriptor names."""
    formats = {parameter.id: parameter.formats for parameter in workflow.parameters if parameter.file_attachment}
    for file in files:
        suffixes = [f".{one.lower().lstrip('.')}" for one in formats.get(file.parameter, ())]
        if suffixes and not file.name.lower().endswith(tuple(suffixes)):
            raise Permanent(
                f"{file.parameter}: {workflow.name} accepts {', '.join(suffixes)}, but the file is {file.name}",
                hint="choose another file",
            )


def _check_plates(workflow: Workflow, images: Sequence[InputImage]) -> None:
    if workflow.requires_plate and (unfit := [image for image in images if not image.is_plate]):
        raise Permanent(
            f"{workflow.name} works on whole plates, but {_names(unfit, lambda image: 'is not a plate')}",
            hint="choose plates or screens, or another workflow",
        )


def _check_axes(workflow: Workflow, images: Sequence[InputImage]) -> None:
    inputs = [one for one in workflow.inputs if one.type is ParameterType.IMAGE]
    for axis, size, what in (("Z", 2, "planes (Z)"), ("T", 0, "time points (T)")):
        unfit = [image for image in images if image.shape[size] > 1]
        if inputs and unfit and all(_takes(one, axis) is False for one in inputs):
            raise Permanent(
                f"{workflow.name} accepts no more than one of {what}, but {_names(unfit, partial(_size, axis=size))}",
                hint=_OTHER_IMAGES,
            )


def _takes(one: Parameter, axis: str) -> bool | None:
    """Whether an image input accepts a size above one along Z or T; None if the descriptor does not declare it."""
    stated = one.depth if axis == "Z" else one.timepoints
    if stated is not None or axis == "T":
        return stated
    kinds = {kind.strip().upper() for kind in one.sub_types}
    return None if "3D" in kinds or "2D" not in kinds else False


def _size(image: InputImage, axis: int) -> str:
    return f"has {image.shape[axis]}"


def _names(unfit: Sequence[InputImage], what: Callable[[InputImage], str]) -> str:
    return first_of([f"{image.name} ({image.key}) {what(image)}" for image in unfit], _NAMED)
