"""Check that a workflow accepts the axes of its input images, before a transfer. Pure.

A descriptor declares the axes of an image input with ``depth`` and ``timepoints`` (bilayers: whether it accepts more
than one plane or time point), or with sub-types (BIAFLOWS and biomero-schema: ``2D``, ``3D``, ``plate``). Without a
declaration all images are accepted: the converter drops no axis, so the workflow itself reports what it does not
support.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biomeroworker.domain.manifest import InputImage
from biomeroworker.errors import Permanent
from biomeroworker.workflows.descriptor import Parameter, ParameterType, Workflow

#: Number of images that a message names.
_NAMED = 3


def check(workflow: Workflow, images: Iterable[InputImage]) -> None:
    """Raise `Permanent`, with images and axis, if no image input of the workflow accepts the images."""
    inputs = [one for one in workflow.inputs if one.type is ParameterType.IMAGE]
    if not inputs:
        return
    all_images = list(images)
    for axis, size in (("Z", 2), ("T", 0)):
        if all(_takes(one, axis) is False for one in inputs):
            unfit = [image for image in all_images if image.shape[size] > 1]
            if unfit:
                what = "planes (Z)" if axis == "Z" else "time points (T)"
                raise Permanent(
                    f"{workflow.name} accepts no more than one of {what}, but {_names(unfit, size)}",
                    hint="choose other images, or another workflow",
                )


def _takes(one: Parameter, axis: str) -> bool | None:
    """Whether an image input accepts a size above one along Z or T; None if the descriptor does not declare it."""
    stated = one.depth if axis == "Z" else one.timepoints
    if stated is not None or axis == "T":
        return stated
    kinds = {kind.strip().upper() for kind in one.sub_types}
    return None if "3D" in kinds or "2D" not in kinds else False


def _names(unfit: Sequence[InputImage], size: int) -> str:
    listed = ", ".join(f"{image.name} ({image.key}) has {image.shape[size]}" for image in unfit[:_NAMED])
    return listed + (f", and {len(unfit) - _NAMED} more" if len(unfit) > _NAMED else "")
