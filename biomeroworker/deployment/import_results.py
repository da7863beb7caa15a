"""Import the results of a run or of a job into OMERO at the request of a user."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from biomeroworker.deployment.data_folders import DataFolders
from biomeroworker.deployment.deployment import Deployment
from biomeroworker.deployment.fetch_results import Fetched, fetch_folder, fetch_run, run_of_job
from biomeroworker.deployment.run_actions import Requester, find
from biomeroworker.domain.constants import CLEANUP, results
from biomeroworker.domain.manifest import InputManifest, keys_in
from biomeroworker.domain.source import NoGuard, Output
from biomeroworker.domain.summary import count_outputs, describe_outputs
from biomeroworker.errors import BiomeroWorkerError, RequestRejected

if TYPE_CHECKING:
    from biomeroworker.omero.connection.session import OmeroSession
    from biomeroworker.omero.scripts.script import Script


@dataclass(frozen=True)
class Wanted:
    """What to import, and how.

    Parameters
    ----------
    run, job_id
        The ID of a run or its start; if it is empty, the job.
    workflow_id
        The run in the event log to which the job belongs; empty: found by the job.
    outputs
        `biomeroworker.omero.importing.options.Options`, as a dict.
    target
        Kind and ids of the objects to attach to; None: those of the inputs.
    images
        The images of the job, if the cluster has no manifest of them.
    """

    run: str
    job_id: int
    workflow_id: str
    outputs: dict[str, Any]
    target: tuple[str, list[int]] | None
    images: list[int]


def import_results(
    deployment: Deployment,
    session: OmeroSession,
    requester: Requester,
    wanted: Wanted,
    location: Callable[[int], str],
    report: Callable[[str], None],
) -> tuple[str, list[Output]]:
    """Fetch and import; return the ID of the run, and what was made. Objects of an earlier import are used again.

    Parameters
    ----------
    location
        Returns the folder on the cluster in which a job ran.

    Raises
    ------
    RequestRejected
        The user may not use the run, the job or its folder, or there are no results.
    """
    from biomeroworker.omero.importing.importer import Import
    from biomeroworker.omero.importing.options import Options

    options = Options.of(wanted.outputs)
    with TemporaryDirectory(prefix="biomeroworker-") as local:
        fetched = _fetch(deployment, requester, wanted, location, Path(local))
        inputs = fetched.inputs or _from_names(session, fetched, wanted.images)
        kind, ids = wanted.target or _origin(inputs)
        report(f"{len(fetched.results.files)} files are fetched; importing")
        importer = Import(session, kind, ids, inputs, fetched.results, fetched.folder, fetched.provenance, options)
        made = importer.run(lambda done, text: print(f"{done:.0%} {text}"), NoGuard())
    return fetched.provenance.run, made


def _fetch(
    deployment: Deployment, requester: Requester, wanted: Wanted, location: Callable[[int], str], local: Path
) -> Fetched:
    if wanted.run:
        run = find(deployment.log, wanted.run, requester)
    elif (found := run_of_job(deployment, wanted.job_id, requester)) is not None:
        run = found
    else:
        folders = DataFolders(deployment, requester)
        path = folders.existing(posixpath.basename(location(wanted.job_id).rstrip("/")))
        return fetch_folder(deployment, folders, path, wanted.job_id, wanted.workflow_id, local)
    if run.request is None:
        raise RequestRejected(f"run {run.id} was recorded by another program: give the ID of its SLURM job")
    return fetch_run(deployment, run, local)


def _from_names(session: OmeroSession, fetched: Fetched, images: list[int]) -> InputManifest:
    """The inputs that the names of the results contain (``image-12_mask.tif``), or that the user names."""
    from biomeroworker.omero.exporting.describe import select
    from biomeroworker.omero.exporting.export import describe

    keys = {key for file in fetched.results.files for key in keys_in(file.path) if key.startswith("image-")}
    ids = images or sorted(int(key.removeprefix("image-")) for key in keys)
    found = select(session, "Image", ids).images if ids else ()
    described = tuple(describe(f"image-{image.id}", image) for image in found)
    return InputManifest(run=fetched.provenance.run, images=described)


def _origin(inputs: InputManifest) -> tuple[str, list[int]]:
    """Kind and ids of the inputs; images if there are images and plates."""
    by_kind: dict[str, list[int]] = {}
    for image in inputs.images:
        by_kind.setdefault(str(image.origin["type"]), []).append(int(image.origin["id"]))
    kind = "Plate" if list(by_kind) == ["Plate"] else "Image"
    return kind, by_kind.get(kind, [])


def import_for_script(
    script: Script, deployment: Deployment, location: Callable[[int], str], remove_folder: Callable[[int], object]
) -> tuple[str, str]:
    """Import what is selected in the dialog of a script; return the ID of the run, and the message.

    Parameters
    ----------
    location
        As for `import_results`.
    remove_folder
        Removes the folder of a job on the cluster; called at the end if that is selected.
    """
    from biomeroworker.omero.scripts import results_fields
    from biomeroworker.omero.scripts.run_choice import RUN_ID

    given = script.inputs
    run = str(given.get(RUN_ID) or "").strip()
    wanted = Wanted(
        run=run,
        job_id=-1 if run else results_fields.job_id(given),
        workflow_id=str(given.get(results.WORKFLOW_UUID) or "").strip(),
        outputs=results_fields.options(given),
        target=results_fields.target(given),
        images=[int(number) for number in given.get(results.ROI_TARGET_IMAGE_IDS) or ()],
    )
    requester = Requester(script.account.user, script.account.is_admin)
    with script.session() as session:
        number, made = import_results(deployment, session, requester, wanted, location, script.report)
    for one in made:
        kind, _, object_id = one.reference.partition(":")
        if one.kind == "Dataset":
            script.output("Dataset", kind, int(object_id))
    whose = f"run {run}" if run else f"job {wanted.job_id}"
    message = f"The results of {whose}: {describe_outputs(count_outputs(made))}"
    if given.get(CLEANUP) and (job := given.get(results.OUTPUT_SLURM_JOB_ID)):
        try:
            remove_folder(int(job))
        except BiomeroWorkerError as refused:
            message += f"\nThe folder of the job on the cluster is not removed: {refused}"
        else:
            message += "\nThe folder of the job on the cluster is removed."
    return number, message
