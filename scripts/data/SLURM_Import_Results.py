"""Import the results of a SLURM job or a run: as images, tables, attachments and ROIs.

SLURM Run Workflow does this itself. This script is for people who compose their own runs, and for other options.
"""

from biomeroworker.domain.constants import results
from biomeroworker.omero.scripts.results_fields import Defaults, fields
from biomeroworker.omero.scripts.script import Script, execute

DEFAULTS = Defaults("Imported_Results", rename=True, rename_pattern="{original_file}_IMPORTED.{ext}")


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then import."""
    description = "Import the results of a SLURM job or a run: as images, tables, attachments and ROIs."
    execute("BIOMERO.SLURM_Import_Results", description, fields(DEFAULTS, importer=True), import_job)


def import_job(script: Script) -> str:
    """Import the results of the job or the run."""
    from omero.rtypes import rstring

    from biomero import SlurmClient
    from biomeroworker.deployment.import_results import import_for_script

    if script.inputs.get(results.TEST_WRITE_PERMISSIONS_ONLY):
        with script.session() as session:
            session.require_writable_group()
        return (
            "You may create datasets in this group. Results are imported by OMERO itself: no folder must be writable."
        )

    with SlurmClient.from_config() as client:
        run, message = import_for_script(
            script, client.deployment, client.extract_data_location_from_log, client.cleanup_tmp_files
        )
    script.client.setOutput(results.WORKFLOW_UUID_OUTPUT, rstring(run))
    return message


if __name__ == "__main__":
    main()
