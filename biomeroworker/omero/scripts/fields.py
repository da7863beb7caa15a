"""The fields of the dialog, in the order in which a biologist needs them.

OMERO.web sorts fields by their grouping, as text. Those with a grouping ``20.01`` are shown in the box of the field
with the grouping ``20``. Its window shows some twenty lines at first, so the inputs and the workflows are above the
options for results, and what most people never change is last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import omero.clients
import omero.scripts
from omero.rtypes import rlong, rstring

from biomeroworker.domain.constants import CLEANUP, transfer, workflow, workflow_batched
from biomeroworker.omero.scripts.names import DATA_TYPES, DATASET_ID, DETACH
from biomeroworker.omero.scripts.script import switch
from biomeroworker.omero.scripts.workflow_fields import workflow_fields
from biomeroworker.workflows.descriptor import Workflow

log = logging.getLogger(__name__)

#: Images per task that the batched dialog shows first.
DEFAULT_BATCH_SIZE = 32


def declare(
    workflows: Sequence[tuple[str, Workflow]],
    versions: Mapping[str, Sequence[str]] = MappingProxyType({}),
    *,
    batched: bool = False,
    email: bool = False,
) -> tuple[list[Any], dict[str, str]]:
    """All parameters of the dialog, for `omero.scripts.client`, and the problems of workflows that are left out.

    Parameters
    ----------
    versions
        The versions of each workflow that are on the cluster, newest first; if any are known, only these can be chosen.
    batched
        Whether the inputs are always split, so that the size of a batch is an important field.
    email
        Whether this worker can send e-mails; if not, the field is not ticked.
    """
    fields = [*_inputs(batched), *_results(), *_rois(), *_rarely_changed(batched, email)]
    taken = {field.name() for field in fields}
    problems = {}
    width = len(str(len(workflows)))
    for number, (name, described) in enumerate(workflows, start=1):
        try:
            found = workflow_fields(f"1{number:0{width}d}", name, described, versions.get(name, ()))
            if same := sorted(taken.intersection(field.name() for field in found)):
                raise ValueError(f"the dialog already has a field {same[0]!r}: give the workflow another name")
        except Exception as error:  # one workflow must not prevent the dialog of the others
            log.warning("workflow %s is left out of the dialog: %s", name, error)
            problems[name] = str(error)
            continue
        taken.update(field.name() for field in found)
        fields += found
    return fields, problems


def _inputs(batched: bool) -> list[Any]:
    fields = [
        omero.scripts.String(
            transfer.DATA_TYPE,
            optional=False,
            grouping="01",
            description="The type of the objects with these IDs.",
            values=[rstring(kind) for kind in DATA_TYPES],
            default=transfer.DATA_TYPE_IMAGE if batched else transfer.DATA_TYPE_DATASET,
        ),
        omero.scripts.List(
            transfer.IDS,
            optional=False,
            grouping="02",
            description="IDs of the datasets, images, plates or screens, separated by commas.",
        ).ofType(rlong(0)),
    ]
    return [*fields, _batch_size(batched)] if batched else fields


def _batch_size(batched: bool) -> Any:
    description = (
        "Number of images (or fields of a plate, in whole wells) per task of an array job. The first tasks compute"
        " while the other images are exported."
    )
    return omero.scripts.Int(
        workflow_batched.BATCH_SIZE,
        optional=not batched,
        grouping="03" if batched else "43",
        default=DEFAULT_BATCH_SIZE if batched else 0,
        description=description if batched else f"{description} 0: all images in one job.",
    )


def _results() -> list[Any]:
    return [
        omero.scripts.Bool(
            workflow.SELECT_IMPORT,
            optional=False,
            grouping="20",
            default=True,
            description="The heading of the options below, which decide what happens to the results. It has no effect"
            " of its own.",
        ),
        omero.scripts.String(
            workflow.OUTPUT_NEW_DATASET,
            optional=True,
            grouping="20.01",
            description="Name of the new dataset for result images. Empty: named after workflow and run. "
            f"{workflow.NO}: result images are not imported.",
        ),
        omero.scripts.Long(
            DATASET_ID,
            optional=True,
            grouping="20.02",
            description="ID of an existing dataset for result images. Empty: a new dataset.",
        ),
        switch(workflow.OUTPUT_CSV_TABLE, "20.03", True, "CSV files become an OMERO.table on what you selected."),
        switch(workflow.OUTPUT_ATTACH_FILE_OUTPUTS, "20.04", True, "Other files become attachments."),
        switch(workflow.OUTPUT_ATTACH, "20.05", False, "Attach each result image, as a file, to its original image."),
        switch(workflow.OUTPUT_PARENT, "20.06", False, "Attach all results as one zip to what you selected."),
        omero.scripts.String(
            workflow.OUTPUT_RENAME,
            optional=True,
            grouping="20.07",
            default=workflow.NO,
            description="Pattern for the names of result images: {original_file}, {original_ext}, {file}, {ext}. "
            f"{workflow.NO}: the name of the original image and what the workflow added to it.",
        ),
        switch(
            workflow.OUTPUT_DUPLICATES,
            "20.08",
            True,
            "Create a new dataset even if you have one of that name. Off: results go into the existing one.",
        ),
    ]


def _rois() -> list[Any]:
    return [
        switch(workflow.OUTPUT_CREATE_ROIS, "30", True, "Outlines of objects become ROIs on the original images."),
        omero.scripts.String(
            workflow.ROI_LABEL_PATTERN,
            optional=True,
            grouping="30.01",
            description="Only result images whose file name matches hold labels, for example *_mask*. Empty: all.",
        ),
        omero.scripts.String(
            workflow.ROI_SHAPE,
            optional=True,
            grouping="30.02",
            default="Polygon",
            values=[rstring("Polygon"), rstring("Mask")],
            description="Outlines as polygons, or masks.",
        ),
        omero.scripts.String(
            workflow.ROI_COLOR,
            optional=True,
            grouping="30.03",
            description="Color of the lines: #RRGGBB, or a name such as red. Empty: yellow.",
        ),
        switch(workflow.ROI_DELETE_LABEL_IMAGES, "30.04", False, "Do not import label images that became ROIs."),
        switch(workflow.ROI_CLEAR_EXISTING, "30.05", False, "First DELETE the existing ROIs of the original images."),
        omero.scripts.String(
            workflow.ROI_CLEAR_FILTER,
            optional=True,
            grouping="30.06",
            description="Delete only those whose names contain this. Empty: all that you may delete.",
        ),
    ]


def _rarely_changed(batched: bool, email: bool) -> list[Any]:
    how = "" if email else " This worker has no mail server ([NOTIFICATIONS] smtp_host): only SLURM may send an e-mail."
    fields = [
        switch(
            workflow.EMAIL, "40", email, f"Send an e-mail to the address in your OMERO account when the run ends.{how}"
        ),
        switch(DETACH, "41", False, "Return at once. The run continues, and imports its results when it is done."),
        switch(
            CLEANUP,
            "42",
            True,
            "Remove the folder of the run from the cluster, some days after its end. Off: it is not removed, for a"
            " look at its files.",
        ),
        switch(
            workflow.USE_ZARR_FORMAT,
            "44",
            False,
            "Give OME-Zarr to a workflow whose descriptor names another format: images are not converted to TIFF. "
            "The container must be able to read it.",
        ),
        omero.scripts.String(
            transfer.OME_VERSION,
            optional=True,
            grouping="45",
            default=transfer.OME_ZARR_VERSION_0_4,
            description=f"Version of OME-Zarr for the export. Only {transfer.OME_ZARR_VERSION_0_4} is supported.",
        ),
    ]
    return fields if batched else [*fields, _batch_size(batched)]
