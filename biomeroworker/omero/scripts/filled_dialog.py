"""The requests that a filled-in dialog makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from biomeroworker.domain.constants import CLEANUP, transfer, workflow, workflow_batched
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.scripts.names import DATASET_ID, SCREEN_ID, file_name, parameter_name, text_of, version_name
from biomeroworker.workflows.descriptor import ParameterType, Workflow

#: Parameters of other dialogs that are refused here, because ignoring them would surprise; with the reason.
_UNSUPPORTED = {
    workflow.OUTPUT_NEW_SCREEN: "results go into datasets; leave it empty",
    SCREEN_ID: "results go into datasets; leave it empty",
}
#: OMERO.biomero 1.6 sends the state of its form as if it were parameters of the workflow.
_FORM_STATE = frozenset({"workflowMode", "plateMode", "Format"})


def requests(
    inputs: Mapping[str, Any],
    workflows: Iterable[tuple[str, Workflow]],
    *,
    user: int = -1,
    group: int = -1,
    user_name: str = "",
    group_name: str = "",
    email: str = "",
    batched: bool = False,
) -> list[RunRequest]:
    """One request for each selected workflow, from the unwrapped inputs of the script.

    Parameters
    ----------
    batched
        Whether the inputs are always split; a batch size is needed then.

    Raises
    ------
    RequestRejected
        No workflow is selected, or an input asks for something unsupported.
    """
    known = dict(workflows)
    selected = [name for name in known if inputs.get(name) is True]
    if not selected:
        unknown = [
            name
            for name, value in inputs.items()
            if value is True and version_name(name) in inputs and name not in known
        ]
        if unknown:
            raise RequestRejected(
                f"workflow {', '.join(unknown)} is not configured; configured are: {', '.join(known) or 'none'}"
            )
        raise RequestRejected(f"no workflow is selected; select one of: {', '.join(known) or 'none is configured'}")
    _refuse_unsupported(inputs)
    batch_size = _batch_size(inputs.get(workflow_batched.BATCH_SIZE), batched)
    source = {"type": inputs.get(transfer.DATA_TYPE), "ids": [int(number) for number in inputs.get(transfer.IDS) or []]}
    return [
        RunRequest(
            workflow=name,
            version=str(inputs.get(version_name(name)) or ""),
            parameters=_parameters(name, known[name], inputs),
            files=_files(name, known[name], inputs),
            source="omero",
            inputs=source,
            outputs=outputs(inputs),
            user=user,
            group=group,
            user_name=user_name,
            group_name=group_name,
            email=email if inputs.get(workflow.EMAIL) else "",
            batch_size=batch_size,
            use_zarr=bool(inputs.get(workflow.USE_ZARR_FORMAT)),
            keep_folder=inputs.get(CLEANUP) is False,
        )
        for name in selected
    ]


def _batch_size(given: Any, batched: bool) -> int:
    size = int(given or 0)
    if size < batched:
        zero = "" if batched else ", or 0 for all in one job"
        raise RequestRejected(f"{workflow_batched.BATCH_SIZE} must be a number of images{zero}, not {size}")
    return size


def _refuse_unsupported(inputs: Mapping[str, Any]) -> None:
    """Parameters of older scripts are refused by name if they are not supported, never ignored."""
    for name, why in _UNSUPPORTED.items():
        if inputs.get(name) not in (None, False, "", workflow.NO):
            raise RequestRejected(f"{name}: {why}")
    if (version := inputs.get(transfer.OME_VERSION)) not in (None, "", transfer.OME_ZARR_VERSION_0_4):
        raise RequestRejected(
            f"{transfer.OME_VERSION}: images are exported as {transfer.OME_ZARR_VERSION_0_4}, not {version}"
        )


def _parameters(name: str, described: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given, by id. Values are checked later, against the descriptor.

    Inputs that the server sets are left out: OMERO.biomero sends values for them, although its form does not show them.
    """
    prefix, files = parameter_name(name, ""), file_name(name, "")
    types = {parameter.id: parameter.type for parameter in described.inputs}
    set_by_server = set(types) - {parameter.id for parameter in described.parameters}
    others = {parameter_name(name, key) for key in (_FORM_STATE - set(types)) | set_by_server}
    given = {
        key.removeprefix(prefix): value
        for key, value in inputs.items()
        if key.startswith(prefix)
        and key not in others
        and not (key.startswith(files) and key.removeprefix(prefix) not in types)
    }
    if several := [key for key, value in given.items() if isinstance(value, list | tuple | dict)]:
        raise RequestRejected(f"{parameter_name(name, several[0])} takes one value, not several")
    return {key: _value(types.get(key), value) for key, value in given.items() if value is not None}


def _files(name: str, described: Workflow, inputs: Mapping[str, Any]) -> dict[str, tuple[int | str, ...]]:
    """The ids of file annotations that were given, by the id of the file parameter."""
    prefix = file_name(name, "")
    ordinary = {parameter_name(name, parameter.id) for parameter in described.inputs}
    known = [parameter.id for parameter in described.parameters if parameter.file_attachment]
    found: dict[str, tuple[int | str, ...]] = {}
    for key, value in inputs.items():
        if not key.startswith(prefix) or key in ordinary or value in (None, "", [], ()):
            continue
        parameter = key.removeprefix(prefix)
        if parameter not in known:
            raise RequestRejected(
                f"{key}: {name} has no file parameter {parameter!r}; it has {', '.join(known) or 'none'}"
            )
        try:
            ids = [int(one) for one in (value if isinstance(value, list | tuple) else [value])]
        except (TypeError, ValueError):
            raise RequestRejected(f"{key}: give IDs of file annotations, not {value!r}") from None
        found[parameter] = tuple(dict.fromkeys(ids))
    return found


def _value(kind: ParameterType | None, value: Any) -> Any:
    """Undo the rounding of OMERO's floats to 32 bits: 0.1 arrives as 0.10000000149."""
    if isinstance(value, float):
        value = float(f"{value:.7g}")
        if kind in (ParameterType.NUMBER, ParameterType.INTEGER) and value.is_integer():
            return int(value)
    return value


def outputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What to do with the results, as `biomeroworker.omero.importing.options.Options` defines it."""
    text = partial(text_of, inputs)
    options: dict[str, Any] = {
        "images": inputs.get(workflow.OUTPUT_NEW_DATASET) != workflow.NO or inputs.get(DATASET_ID) is not None,
        "rois": inputs.get(workflow.OUTPUT_CREATE_ROIS, True),
        "tables": inputs.get(workflow.OUTPUT_CSV_TABLE, True),
        "files": inputs.get(workflow.OUTPUT_ATTACH_FILE_OUTPUTS, True),
        "zip": inputs.get(workflow.OUTPUT_PARENT, False),
        "attach_images": inputs.get(workflow.OUTPUT_ATTACH, False),
        "roi_shape": (text(workflow.ROI_SHAPE) or "polygon").lower(),
        "label_pattern": text(workflow.ROI_LABEL_PATTERN) or "*",
        "roi_colour": text(workflow.ROI_COLOR) or "yellow",
        "clear_rois": inputs.get(workflow.ROI_CLEAR_EXISTING, False),
        "clear_filter": text(workflow.ROI_CLEAR_FILTER),
        "label_images": not inputs.get(workflow.ROI_DELETE_LABEL_IMAGES, False),
        "duplicates": inputs.get(workflow.OUTPUT_DUPLICATES, True),
        "dataset": text(workflow.OUTPUT_NEW_DATASET),
        "rename": text(workflow.OUTPUT_RENAME),
    }
    if inputs.get(DATASET_ID) is not None:
        options["dataset_id"] = int(inputs[DATASET_ID])
    return options
