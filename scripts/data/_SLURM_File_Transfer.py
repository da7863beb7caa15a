"""Send the file of an annotation to a folder on the cluster. A step for people who compose their own runs."""

import omero.clients
import omero.scripts

from biomeroworker.domain.constants import CLEANUP, file_transfer
from biomeroworker.omero.scripts.script import Script, execute


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then send the file."""
    execute(
        "_SLURM_File_Transfer",
        "Send the file of an annotation to a folder on the cluster, beside the images of _SLURM_Image_Transfer.",
        [
            omero.scripts.Long(
                file_transfer.FILE_ANNOTATION_ID, optional=False, grouping="1", description="The ID of the annotation."
            ),
            omero.scripts.String(
                file_transfer.FOLDER,
                optional=False,
                grouping="2",
                description="Name of the folder on the cluster, below the data folder.",
            ),
            omero.scripts.String(
                file_transfer.PARAM_SLOT,
                optional=True,
                grouping="2.1",
                description="A folder in data/in for this file, for a parameter that takes a folder.",
            ),
            omero.scripts.Bool(
                CLEANUP,
                optional=True,
                grouping="3",
                default=True,
                description="No effect: the node keeps no copy.",
            ),
            omero.scripts.String(
                file_transfer.FORMAT,
                optional=True,
                grouping="4",
                description="File types that are accepted, separated by commas, for example .csv,.txt. Empty: all.",
            ),
            omero.scripts.String("Slurm_Path").out(),
        ],
        send_file,
    )


def send_file(script: Script) -> str:
    """Download the file and send it."""
    import tempfile
    from pathlib import Path

    from omero.rtypes import rstring

    from biomeroworker.deployment.data_folders import DataFolders
    from biomeroworker.deployment.deployment import Deployment
    from biomeroworker.deployment.run_actions import Requester
    from biomeroworker.omero.exporting import attachments

    given = script.inputs
    number = int(given.get(file_transfer.FILE_ANNOTATION_ID) or 0)
    with Deployment.load() as deployment, tempfile.TemporaryDirectory(prefix="biomeroworker-") as local:
        folders = DataFolders(deployment, Requester(script.account.user, script.account.is_admin))
        with script.session() as session:
            allowed = str(given.get(file_transfer.FORMAT) or "").split(",")
            file = attachments.download(session, number, Path(local), allowed)
        path = folders.send_file(
            str(given.get(file_transfer.FOLDER) or ""), file, str(given.get(file_transfer.PARAM_SLOT) or "")
        )
        size = file.stat().st_size
    script.client.setOutput("Slurm_Path", rstring(path))
    return f"{file.name} ({size} bytes) is on the cluster: {path}"


if __name__ == "__main__":
    main()
