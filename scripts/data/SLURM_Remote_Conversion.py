"""Convert the OME-Zarr in a folder on the cluster to TIFF, in a SLURM job.

A step for people who compose their own runs.
"""

import omero.clients
import omero.scripts
from omero.rtypes import rstring

from biomeroworker.domain.constants import CLEANUP, conversion, results
from biomeroworker.omero.scripts.script import Script, execute


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then convert."""

    def string(name, grouping, description, default=None, values=()):
        choice = {"values": [rstring(value) for value in values]} if values else {}
        return omero.scripts.String(
            name, optional=True, grouping=grouping, description=description, default=default, **choice
        )

    execute(
        "SLURM Remote Conversion",
        "Convert the OME-Zarr in a folder on the cluster to OME-TIFF, in one SLURM job. SLURM Run Workflow does this "
        "itself, in the job of the workflow.",
        [
            string(conversion.INPUT_DATA, "01", "Name of the folder, as given to _SLURM_Image_Transfer."),
            string(conversion.SOURCE_FORMAT, "02.1", "The format of the images.", "zarr", ["zarr"]),
            string(conversion.TARGET_FORMAT, "02.2", "zarr: nothing is converted.", "tiff", ["tiff", "zarr"]),
            omero.scripts.Bool(
                CLEANUP, optional=True, grouping="03", default=True, description="Remove the log of the job at the end."
            ),
            string(conversion.PARENT_WORKFLOW_ID, "04", "The run in the event log to which the job is added."),
            string(results.LOG_FALLBACK_TARGET, "05", "No effect: the log is in the output of this script."),
        ],
        convert,
    )


def convert(script: Script) -> str:
    """Submit the job, wait for its end, and print its log."""
    import tempfile
    from pathlib import Path
    from uuid import UUID

    from biomero import SlurmClient
    from biomeroworker.deployment.data_folders import DataFolders
    from biomeroworker.deployment.run_actions import Requester
    from biomeroworker.errors import Permanent, RequestRejected

    given = script.inputs
    name = str(given.get(conversion.INPUT_DATA) or "").strip()
    source, target = (str(given.get(key) or "zarr") for key in (conversion.SOURCE_FORMAT, conversion.TARGET_FORMAT))
    try:
        parent = UUID(str(given[conversion.PARENT_WORKFLOW_ID])) if given.get(conversion.PARENT_WORKFLOW_ID) else None
    except ValueError:
        raise RequestRejected(f"{conversion.PARENT_WORKFLOW_ID} is not the ID of a run") from None
    if source == target:
        return f"Nothing to convert: {source} is the format of the source and of the target."
    with SlurmClient.from_config() as client:
        DataFolders(client.deployment, Requester(script.account.user, script.account.is_admin)).existing(name)
        account, tracker = script.account, client.workflowTracker
        run = parent or tracker.initiate_workflow("conversion", f"conversion {name}", account.user, account.group)
        job = client.run_conversion_workflow_job(name, source, target, run)
        if not job.ok:
            if parent is None:
                tracker.fail_workflow(run, job.get_error())
            raise Permanent(f"the conversion was not submitted: {job.get_error()}")
        script.report(f"The conversion of {name} is SLURM job {job.job_id}.")
        job.slurm_polling_interval = client.deployment.settings.default_cluster.slurm.poll_seconds
        state = job.wait_for_completion(client)
        with tempfile.TemporaryDirectory(prefix="biomeroworker-") as local:
            _, log, _ = client.get_conversion_logfile_from_slurm(job.job_id, local)
            text = Path(log).read_text(errors="replace")
        print(text)
        if parent is None:
            if job.completed():
                tracker.complete_workflow(run)
            else:
                tracker.fail_workflow(run, f"the SLURM job ended as {state}")
        if not job.completed():
            raise Permanent(f"the conversion ended as {state}", detail="\n".join(text.splitlines()[-10:]))
        if given.get(CLEANUP, True):
            job.cleanup(client)
    return f"The images in {name} are converted to {target} (SLURM job {job.job_id}). The OME-Zarr is in data/zarr."


if __name__ == "__main__":
    main()
