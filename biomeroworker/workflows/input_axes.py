"""Whether a workflow can take the images it is asked to, before any of them is moved.

What a descriptor says of an image input's axes: bilayers' ``depth`` and ``timepoints`` (whether it takes more than one
plane, more than one time point), and the sub-types that BIAFLOWS and biomero-schema name (``2D``, ``3D``, ``plate``).
Where a descriptor is silent, everything is let through: a converter never drops an axis, so the workflow itself will
say what it cannot do.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from biomeroworker.domain.manifest import InputImage
from biomeroworker.errors import Permanent
from biomeroworker.workflows.descriptor import Parameter, ParameterType, Workflow

#: Images that a message names.
_NAMED = 3


def check(workflow: Workflow, images: Iterable[InputImage]) -> None:
    """Raise `Permanent`, naming images and axis, when every image input of the workflow declares that it cannot."""
    inputs = [one for one in workflow.inputs if one.type is ParameterType.IMAGE]
    if not inputs:
        return
    there = list(images)
    for axis, size in (("Z", 2), ("T", 0)):
        if all(_takes(one, axis) is False for one in inputs):
            unfit = [image for image in there if image.shape[size] > 1]
            if unfit:
                what = "planes (Z)" if axis == "Z" else "time points (T)"
                raise Permanent(
                    f"{workflow.name} takes no more than one of {what}, but {_names(unfit, size)}",
                    hint="choose other images, or another workflow",
                )


def _takes(one: Parameter, axis: str) -> bool | None:
    """Whether an image input takes more than one along Z or T; None where its descriptor does not say."""
    stated = one.depth if axis == "Z" else one.timepoints
    if stated is not None or axis == "T":
        return stated
    kinds = {kind.strip().upper() for kind in one.sub_types}
    return None if "3D" in kinds or "2D" not in kinds else False


def _names(unfit: Sequence[InputImage], size: int) -> str:
    listed = ", ".join(f"{image.name} ({image.key}) has {image.shape[size]}" for image in unfit[:_NAMED])
    return listed + (f", and {len(unfit) - _NAMED} more" if len(unfit) > _NAMED else "")
