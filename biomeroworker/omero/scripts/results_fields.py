"""The dialogs that import the results of a job: their fields, and the options of the import from a filled-in dialog.

Two scripts have these fields, under the names that other scripts send; their defaults differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import omero.clients
import omero.scripts
from omero.rtypes import rlong, rstring

from biomeroworker.domain.constants import CLEANUP, results
from biomeroworker.errors import RequestRejected
from biomeroworker.omero.scripts.names import text_of
from biomeroworker.omero.scripts.run_choice import RUN_ID
from biomeroworker.omero.scripts.script import switch

#: The lists of targets by their kind: results are attached to the objects that they name.
_TARGETS = {
    "Project": (results.OUTPUT_ATTACH_PROJECT_ID,),
    "Dataset": (
        results.OUTPUT_ATTACH_DATASET_ID,
        results.OUTPUT_ATTACH_TABLE_DATASET_ID,
        results.OUTPUT_ATTACH_FILE_OUTPUTS_DATASET_ID,
    ),
    "Plate": (
        results.OUTPUT_ATTACH_PLATE_ID,
        results.OUTPUT_ATTACH_TABLE_PLATE_ID,
        results.OUTPUT_ATTACH_FILE_OUTPUTS_PLATE_ID,
    ),
}
_ZIP = (results.OUTPUT_ATTACH_PROJECT, results.OUTPUT_ATTACH_DATASET, results.OUTPUT_ATTACH_PLATE)


@dataclass(frozen=True)
class Defaults:
    """The defaults in which the two scripts differ."""

    new_dataset: str
    rename: bool
    rename_pattern: str
    attach_images: bool = False
    images: bool = True
    tables: bool = True


def fields(defaults: Defaults, *, importer: bool) -> list[Any]:
    """All fields; ``importer``: also those that only SLURM_Import_Results.py has."""

    def string(name: str, grouping: str, description: str, default: str | None = None) -> Any:
        return omero.scripts.String(name, optional=True, grouping=grouping, default=default, description=description)

    def number(name: str, grouping: str, description: str) -> Any:
        return omero.scripts.Long(name, optional=True, grouping=grouping, description=description)

    def targets(name: str, grouping: str, kind: str) -> Any:
        description = f"IDs of the {kind}s to attach to. Empty: the objects that the images are in."
        return omero.scripts.List(name, optional=True, grouping=grouping, description=description).ofType(rstring(""))

    own = [
        switch(results.OUTPUT_COMPLETED_JOB, "01", True, "Import the results of this job."),
        string(results.OUTPUT_SLURM_JOB_ID, "01.1", "The ID of a SLURM job that is completed."),
        string(RUN_ID, "01.15", "Or the ID of a run, or its first characters."),
        string(results.WORKFLOW_UUID, "01.2", "The run to which the job belongs. Empty: found by the job."),
        string(results.TASK_ID, "01.3", "No effect: the task is found by the job."),
        string(results.LOG_FALLBACK_TARGET, "01.4", "No effect: SLURM Get Update shows the log."),
        omero.scripts.List(
            results.ROI_TARGET_IMAGE_IDS,
            optional=True,
            grouping="01.5",
            description="The images of the job, if the cluster has no list of them.",
        ).ofType(rlong(0)),
        switch(results.OUTPUT_ATTACH_PROJECT, "03", False, "Attach all results as one zip."),
        targets(results.OUTPUT_ATTACH_PROJECT_ID, "03.1", "project"),
        switch(results.OUTPUT_ATTACH_DATASET, "04", False, "Attach all results as one zip."),
        targets(results.OUTPUT_ATTACH_DATASET_ID, "04.1", "dataset"),
        switch(results.OUTPUT_ATTACH_PLATE, "05", False, "Attach all results as one zip."),
        targets(results.OUTPUT_ATTACH_PLATE_ID, "05.1", "plate"),
        switch(
            results.OUTPUT_ATTACH_OG_IMAGES,
            "06",
            defaults.attach_images,
            "Attach each result image, as a file, to its original image.",
        ),
        switch(results.OUTPUT_ATTACH_NEW_DATASET, "06.05", defaults.images, "Import result images into a dataset."),
        string(results.OUTPUT_ATTACH_NEW_DATASET_NAME, "06.1", "Name of the new dataset.", defaults.new_dataset),
        switch(
            results.OUTPUT_ATTACH_NEW_DATASET_DUPLICATE,
            "06.2",
            True,
            "Create a new dataset even if you have one of that name. Off: results go into the existing one.",
        ),
        number(results.OUTPUT_ATTACH_NEW_DATASET_ID, "06.25", "Put result images into this dataset instead."),
        switch(results.OUTPUT_ATTACH_NEW_DATASET_RENAME, "06.3", defaults.rename, "Name the images by the pattern."),
        string(
            results.OUTPUT_ATTACH_NEW_DATASET_RENAME_NAME,
            "06.4",
            "Pattern for the names of result images: {original_file}, {original_ext}, {file}, {ext}.",
            defaults.rename_pattern,
        ),
        switch(results.OUTPUT_ATTACH_TABLE, "07", defaults.tables, "CSV files become an OMERO.table."),
        switch(results.OUTPUT_ATTACH_TABLE_DATASET, "07.1", True, "No effect: the lists name the targets."),
        targets(results.OUTPUT_ATTACH_TABLE_DATASET_ID, "07.2", "dataset"),
        switch(results.OUTPUT_ATTACH_TABLE_PLATE, "07.3", False, "No effect: the lists name the targets."),
        targets(results.OUTPUT_ATTACH_TABLE_PLATE_ID, "07.4", "plate"),
        switch(results.OUTPUT_ATTACH_FILE_OUTPUTS, "08", False, "Other files become attachments."),
        switch(results.OUTPUT_ATTACH_FILE_OUTPUTS_DATASET, "08.1", True, "No effect: the lists name the targets."),
        targets(results.OUTPUT_ATTACH_FILE_OUTPUTS_DATASET_ID, "08.2", "dataset"),
        switch(results.OUTPUT_ATTACH_FILE_OUTPUTS_PLATE, "08.3", False, "No effect: the lists name the targets."),
        targets(results.OUTPUT_ATTACH_FILE_OUTPUTS_PLATE_ID, "08.4", "plate"),
        switch(results.OUTPUT_CREATE_ROIS, "08.5", False, "Outlines of objects become ROIs on the original images."),
        string(results.ROI_LABEL_PATTERN, "08.6", "Only results whose name matches hold labels: *_mask*. Empty: all."),
        omero.scripts.String(
            results.ROI_SHAPE,
            optional=True,
            grouping="08.7",
            default="Polygon",
            values=[rstring("Polygon"), rstring("Mask")],
            description="Outlines as polygons, or masks.",
        ),
        switch(results.ROI_DELETE_LABEL_IMAGES, "08.8", False, "Do not import label images that became ROIs."),
        string(results.ROI_NAME_PREFIX, "08.9", "No effect: ROIs have the name of the workflow."),
        string(results.ROI_COLOR, "08.95", "Color of the lines: #RRGGBB, or a name such as red."),
        switch(results.ROI_CLEAR_EXISTING, "08.96", False, "First DELETE the existing ROIs of the original images."),
        string(results.ROI_CLEAR_FILTER, "08.97", "Delete only those whose names contain this. Empty: all."),
        switch(CLEANUP, "09", False, "DELETE the images and results of the job on the cluster after the import."),
    ]
    if not importer:
        return own
    return [
        *own,
        switch(results.OUTPUT_ATTACH_NEW_SCREEN, "06.5", False, "Not possible: results go into datasets."),
        string(results.OUTPUT_ATTACH_NEW_SCREEN_NAME, "06.6", "No effect.", defaults.new_dataset),
        switch(results.OUTPUT_ATTACH_NEW_SCREEN_DUPLICATE, "06.7", False, "No effect."),
        number(results.OUTPUT_ATTACH_NEW_SCREEN_ID, "06.8", "Not possible: results go into datasets."),
        switch(results.IMPORT_LABEL_ZARRS, "06.91", True, "No effect: label images of OME-Zarr are imported."),
        switch(results.IMPORT_ONLY_LABELS, "06.92", True, "No effect: all result images are imported."),
        switch(
            results.TEST_WRITE_PERMISSIONS_ONLY, "10", False, "Only check that you may create a dataset in this group."
        ),
        omero.scripts.String(results.WORKFLOW_UUID_OUTPUT).out(),
    ]


def options(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What to do with the results, as `biomeroworker.omero.importing.options.Options` defines it.

    Raises
    ------
    RequestRejected
        A screen is selected: results go into datasets.
    """
    text = partial(text_of, inputs)
    if inputs.get(results.OUTPUT_ATTACH_NEW_SCREEN) or inputs.get(results.OUTPUT_ATTACH_NEW_SCREEN_ID) is not None:
        raise RequestRejected(f"{results.OUTPUT_ATTACH_NEW_SCREEN}: results go into datasets; select a dataset")
    number = inputs.get(results.OUTPUT_ATTACH_NEW_DATASET_ID)
    chosen = {
        "images": bool(inputs.get(results.OUTPUT_ATTACH_NEW_DATASET)) or number is not None,
        "dataset": text(results.OUTPUT_ATTACH_NEW_DATASET_NAME),
        "duplicates": bool(inputs.get(results.OUTPUT_ATTACH_NEW_DATASET_DUPLICATE, True)),
        "rename": text(results.OUTPUT_ATTACH_NEW_DATASET_RENAME_NAME)
        if inputs.get(results.OUTPUT_ATTACH_NEW_DATASET_RENAME)
        else "",
        "tables": bool(inputs.get(results.OUTPUT_ATTACH_TABLE)),
        "files": bool(inputs.get(results.OUTPUT_ATTACH_FILE_OUTPUTS)),
        "attach_images": bool(inputs.get(results.OUTPUT_ATTACH_OG_IMAGES)),
        "zip": any(inputs.get(name) for name in _ZIP),
        "rois": bool(inputs.get(results.OUTPUT_CREATE_ROIS)),
        "roi_shape": (text(results.ROI_SHAPE) or "polygon").lower(),
        "label_pattern": text(results.ROI_LABEL_PATTERN) or "*",
        "roi_colour": text(results.ROI_COLOR) or "yellow",
        "clear_rois": bool(inputs.get(results.ROI_CLEAR_EXISTING)),
        "clear_filter": text(results.ROI_CLEAR_FILTER),
        "label_images": not inputs.get(results.ROI_DELETE_LABEL_IMAGES),
    }
    if number is not None:
        chosen["dataset_id"] = int(number)
    if not any(chosen[name] for name in ("images", "tables", "files", "attach_images", "zip", "rois")):
        raise RequestRejected("nothing to import: select at least one of the outputs")
    return chosen


def target(inputs: Mapping[str, Any]) -> tuple[str, list[int]] | None:
    """Kind and ids of the objects to attach to; None: where the images are.

    Raises
    ------
    RequestRejected
        An entry has no ID, or the lists name objects of several kinds.
    """
    found: dict[str, list[int]] = {}
    for kind, names in _TARGETS.items():
        entries = [entry for name in names for entry in inputs.get(name) or ()]
        if entries:
            found[kind] = sorted({_number(str(entry)) for entry in entries})
    if len(found) > 1:
        raise RequestRejected(f"results are attached to objects of one kind; select one of: {', '.join(found)}")
    return next(iter(found.items()), None)


def _number(entry: str) -> int:
    """The ID of an entry: ``12``, or ``12: its name``."""
    match = re.fullmatch(r"\s*(\d+)\s*(:.*)?", entry, re.S)
    if match is None:
        raise RequestRejected(f"{entry!r} has no ID: write a number, or a number, a colon and a name")
    return int(match[1])


def job_id(inputs: Mapping[str, Any], name: str = results.OUTPUT_SLURM_JOB_ID) -> int:
    """The ID of the job. Raises `RequestRejected` if there is none."""
    given = str(inputs.get(name) or "").strip()
    if not given.isdigit():
        raise RequestRejected(f"{name}: write the ID of a SLURM job, not {given!r}")
    return int(given)
