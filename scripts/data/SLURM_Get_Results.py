"""Import the results of a SLURM job or a run: as attachments, images, tables and ROIs.

SLURM Run Workflow does this itself. This script is for people who compose their own runs, and for other options.
"""

from biomeroworker.omero.scripts.results_fields import Defaults, fields
from biomeroworker.omero.scripts.script import Script, execute

DEFAULTS = Defaults(
    "My_Results",
    rename=False,
    rename_pattern="{original_file}NucleiLabels.{ext}",
    attach_images=True,
    images=False,
    tables=False,
)


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then import."""
    description = "Import the results of a SLURM job or a run: as attachments, images, tables and ROIs."
    execute("Slurm Get Results", description, fields(DEFAULTS, importer=False), import_job)


def import_job(script: Script) -> str:
    """Import the results of the job or the run."""
    from biomero import SlurmClient
    from biomeroworker.deployment.import_results import import_for_script

    with SlurmClient.from_config() as client:
        _, message = import_for_script(
            script, client.deployment, client.extract_data_location_from_log, client.cleanup_tmp_files
        )
    return message


if __name__ == "__main__":
    main()
