"""The dialog of the OMERO script that runs workflows: its fields, and the requests from a filled-in dialog.

Parameter names are those that people, OMERO.biomero and other scripts use already (`domain.constants`). The dialog
needs no network: descriptors come from the cache. Bounds are in a field's description and not in the field, because
OMERO would refuse a value outside of them with a message that does not name the bounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import omero.clients
import omero.scripts
from omero.rtypes import rstring

from biomeroworker.domain.constants import CLEANUP, transfer, workflow, workflow_batched
from biomeroworker.domain.request import RunRequest
from biomeroworker.errors import RequestRejected
from biomeroworker.workflows.descriptor import Parameter, ParameterType, Workflow

log = logging.getLogger(__name__)

TYPES = (transfer.DATA_TYPE_DATASET, transfer.DATA_TYPE_IMAGE, transfer.DATA_TYPE_PLATE, transfer.DATA_TYPE_SCREEN)
DATASET_ID = "Dataset_ID"
_24_BITS = 2**24
_32_BITS = 2**31
#: Parameters of other dialogs that are refused here, because ignoring them would surprise; with the reason.
_UNSUPPORTED = {
    workflow.OUTPUT_NEW_SCREEN: "results go into datasets; leave it empty",
    "Screen_ID": "results go into datasets; leave it empty",
}


def version_name(name: str) -> str:
    """The parameter that holds the version of a workflow."""
    return f"{name}_Version"


def parameter_name(name: str, parameter: str) -> str:
    """The parameter that holds a parameter of a workflow."""
    return f"{name}_|_{parameter}"


# -- the dialog -------------------------------------------------------------------------------------------------------


def declare(
    workflows: Iterable[tuple[str, Workflow]], versions: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> list[Any]:
    """All parameters of the dialog, for `omero.scripts.client`.

    Parameters
    ----------
    versions
        The versions of each workflow that are on the cluster, newest first; if any are known, only these can be chosen.
    """
    fields = [
        omero.scripts.String(
            transfer.DATA_TYPE,
            optional=False,
            grouping="01.1",
            description="The type of the objects with these IDs.",
            values=[rstring(kind) for kind in TYPES],
            default=transfer.DATA_TYPE_DATASET,
        ),
        omero.scripts.List(
            transfer.IDS, optional=False, grouping="01.2", description="IDs of the datasets, images, plates or screens."
        ).ofType(omero.rtypes.rlong(0)),
        omero.scripts.Bool(
            workflow.EMAIL,
            grouping="01.3",
            default=True,
            description="SLURM writes to the address in your OMERO account when the job ends.",
        ),
        omero.scripts.Int(
            workflow_batched.BATCH_SIZE,
            optional=True,
            grouping="01.4",
            default=0,
            description="Number of images (or fields of a plate, in whole wells) per task of an array job. The first "
            "tasks compute while the other images are exported. 0: all images in one job.",
        ),
        omero.scripts.Bool(
            workflow.SELECT_IMPORT,
            optional=False,
            grouping="02",
            default=True,
            description="What to do with the results.",
        ),
        *_outputs(),
    ]
    for number, (name, described) in enumerate(workflows, start=3):
        fields += _workflow(f"{number:02d}", name, described, versions.get(name, ()))
    return fields


def _outputs() -> list[Any]:
    def switch(name: str, grouping: str, default: bool, description: str) -> Any:
        return omero.scripts.Bool(name, optional=True, grouping=grouping, default=default, description=description)

    return [
        switch(workflow.OUTPUT_PARENT, "02.2", False, "Attach all results as one zip to what you selected."),
        switch(workflow.OUTPUT_ATTACH, "02.4", False, "Attach each result image, as a file, to its original image."),
        omero.scripts.String(
            workflow.OUTPUT_NEW_DATASET,
            optional=True,
            grouping="02.5",
            description="Name of the new dataset for result images. Empty: named after workflow and run. "
            f"{workflow.NO}: result images are not imported.",
        ),
        switch(
            workflow.OUTPUT_DUPLICATES,
            "02.6",
            True,
            "Create a new dataset even if you have one of that name. Off: results go into the existing one.",
        ),
        omero.scripts.Long(
            DATASET_ID, optional=True, grouping="02.61", description="Put result images into this dataset instead."
        ),
        omero.scripts.String(
            workflow.OUTPUT_RENAME,
            optional=True,
            grouping="02.7",
            default=workflow.NO,
            description="Pattern for the names of result images: {original_file}, {original_ext}, {file}, {ext}.",
        ),
        switch(workflow.OUTPUT_CSV_TABLE, "02.8", True, "CSV files become an OMERO.table on what you selected."),
        switch(workflow.OUTPUT_ATTACH_FILE_OUTPUTS, "02.85", True, "Other files become attachments."),
        switch(workflow.OUTPUT_CREATE_ROIS, "02.86", True, "Outlines of objects become ROIs on the original images."),
        omero.scripts.String(
            workflow.ROI_LABEL_PATTERN,
            optional=True,
            grouping="02.87",
            description="Only result images whose file name matches hold labels, for example *_mask*. Empty: all.",
        ),
        omero.scripts.String(
            workflow.ROI_SHAPE,
            optional=True,
            grouping="02.88",
            default="Polygon",
            values=[rstring("Polygon"), rstring("Mask")],
            description="Outlines as polygons, or masks.",
        ),
        omero.scripts.String(
            workflow.ROI_COLOR,
            optional=True,
            grouping="02.885",
            description="Color of the lines: #RRGGBB, or a name such as red.",
        ),
        switch(workflow.ROI_DELETE_LABEL_IMAGES, "02.89", False, "Do not import label images that became ROIs."),
        switch(workflow.ROI_CLEAR_EXISTING, "02.90", False, "First DELETE the existing ROIs of the original images."),
        omero.scripts.String(
            workflow.ROI_CLEAR_FILTER,
            optional=True,
            grouping="02.91",
            description="Delete only those whose names contain this. Empty: all that you may delete.",
        ),
    ]


def _workflow(group: str, name: str, described: Workflow, versions: Sequence[str]) -> list[Any]:
    """The fields of one workflow; a parameter that OMERO cannot represent is left out and logged."""
    choice: dict[str, Any] = {"values": [rstring(one) for one in versions]} if versions else {}
    tag = described.container_image.rpartition(":")[2] if ":" in described.container_image.rpartition("/")[2] else ""
    if tag and (tag in versions if versions else tag != "latest"):
        choice["default"] = tag
    fields = [
        omero.scripts.Bool(name, optional=True, grouping=group, default=False, description=described.description),
        omero.scripts.String(
            version_name(name),
            optional=True,
            grouping=f"{group}.0",
            description="Version of the container. Empty: the newest on the cluster.",
            **choice,
        ),
    ]
    for number, parameter in enumerate(described.parameters, start=1):
        if parameter.type not in _FIELD_TYPES:
            continue
        try:
            fields.append(_field(f"{group}.{number:02d}", parameter_name(name, parameter.id), parameter))
        except (ValueError, TypeError) as error:
            log.warning("parameter %s of workflow %s is left out of the dialog: %s", parameter.id, name, error)
    return fields


@dataclass(frozen=True)
class _FieldType:
    """A type of field of ``omero.scripts``: its name, the Python type of its values, and how a choice is wrapped."""

    name: str
    convert: Callable[[Any], Any]
    wrap: Callable[[Any], Any] = omero.rtypes.rtype


_STRING = _FieldType("String", str)
_INT = _FieldType("Int", int)
_LONG = _FieldType("Long", int)
_FLOAT = _FieldType("Float", float, omero.rtypes.rfloat)
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
    description = parameter.description or parameter.name
    if bounds := bounds_text(parameter):
        description = f"{description} ({bounds})"
    # optional, because only the workflows that are selected need their parameters
    return getattr(omero.scripts, kind.name)(
        name, optional=True, grouping=grouping, description=description, **settings
    )


def _whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and float(value).is_integer()


def bounds_text(parameter: Parameter) -> str:
    """The bounds as text; empty if there are none."""
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return "" if high is None else f"at most {high:g}"


# -- the filled-in dialog -------------------------------------------------------------------------------------------


def requests(
    inputs: Mapping[str, Any],
    workflows: Iterable[tuple[str, Workflow]],
    *,
    user: int = -1,
    group: int = -1,
    user_name: str = "",
    group_name: str = "",
    email: str = "",
) -> list[RunRequest]:
    """One request for each selected workflow, from the unwrapped inputs of the script.

    Raises `RequestRejected` if no workflow is selected, or if an input asks for something unsupported.
    """
    known = dict(workflows)
    selected = [name for name in known if inputs.get(name) is True]
    if not selected:
        unknown = [
            name
            for name, value in inputs.items()
            if value is True and f"{name}_Version" in inputs and name not in known
        ]
        if unknown:
            raise RequestRejected(
                f"workflow {', '.join(unknown)} is not configured; configured are: {', '.join(known) or 'none'}"
            )
        raise RequestRejected(f"no workflow is selected; select one of: {', '.join(known) or 'none is configured'}")
    _refuse_unsupported(inputs, {name: known[name] for name in selected})
    source = {"type": inputs.get(transfer.DATA_TYPE), "ids": [int(number) for number in inputs.get(transfer.IDS) or []]}
    return [
        RunRequest(
            workflow=name,
            version=str(inputs.get(version_name(name)) or ""),
            parameters=_parameters(name, known[name], inputs),
            source="omero",
            inputs=source,
            outputs=outputs(inputs),
            user=user,
            group=group,
            user_name=user_name,
            group_name=group_name,
            email=email if inputs.get(workflow.EMAIL) else "",
            batch_size=_batch_size(inputs.get(workflow_batched.BATCH_SIZE)),
        )
        for name in selected
    ]


def _batch_size(given: Any) -> int:
    size = int(given or 0)
    if size < 0:
        raise RequestRejected(
            f"{workflow_batched.BATCH_SIZE} must be a number of images, or 0 for all in one job, not {size}"
        )
    return size


def _refuse_unsupported(inputs: Mapping[str, Any], selected: Mapping[str, Workflow]) -> None:
    """Parameters of older scripts are refused by name if they are not supported, never ignored."""
    for name, why in _UNSUPPORTED.items():
        if inputs.get(name) not in (None, False, "", workflow.NO):
            raise RequestRejected(f"{name}: {why}")
    if inputs.get(CLEANUP) is False:
        raise RequestRejected(
            f"{CLEANUP}: folders on the cluster are removed some days after the end of a run; the administrator sets "
            "the number of days ([WORKER] retention_days)"
        )
    if (version := inputs.get(transfer.OME_VERSION)) not in (None, "", transfer.OME_ZARR_VERSION_0_4):
        raise RequestRejected(
            f"{transfer.OME_VERSION}: images are exported as {transfer.OME_ZARR_VERSION_0_4}, not {version}"
        )
    if inputs.get(workflow.USE_ZARR_FORMAT):
        tiff = [name for name, described in selected.items() if described.format != "zarr"]
        if tiff:
            raise RequestRejected(
                f"{workflow.USE_ZARR_FORMAT}: {', '.join(tiff)} reads TIFF according to its descriptor; switch it off"
            )


def _parameters(name: str, described: Workflow, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given, by id. Values are checked later, against the descriptor."""
    prefix = parameter_name(name, "")
    types = {parameter.id: parameter.type for parameter in described.inputs}
    given = {key.removeprefix(prefix): value for key, value in inputs.items() if key.startswith(prefix)}
    return {key: _value(types.get(key), value) for key, value in given.items() if value is not None}


def _value(kind: ParameterType | None, value: Any) -> Any:
    """Undo the rounding of OMERO's floats to 32 bits: 0.1 arrives as 0.10000000149."""
    if isinstance(value, float):
        value = float(f"{value:.7g}")
        if kind in (ParameterType.NUMBER, ParameterType.INTEGER) and value.is_integer():
            return int(value)
    return value


def outputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What to do with the results, as `biomeroworker.omero.importing.options.Options` defines it."""

    def text(name: str) -> str:
        value = str(inputs.get(name) or "").strip()
        return "" if value == workflow.NO else value

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
