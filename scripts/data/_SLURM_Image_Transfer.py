"""Export images as OME-Zarr, and send them to a folder on the cluster. A step for people who compose their own runs."""

from datetime import UTC, datetime

import omero.clients
import omero.scripts
from omero.rtypes import rlong, rstring

from biomeroworker.domain.constants import CLEANUP, transfer
from biomeroworker.omero.scripts.script import Script, execute

TYPES = (transfer.DATA_TYPE_DATASET, transfer.DATA_TYPE_IMAGE, transfer.DATA_TYPE_PLATE)
FORMATS = (transfer.FORMAT_TIFF, transfer.FORMAT_OMETIFF, transfer.FORMAT_OMEZARR)
NO_EFFECT = "No effect: OME-Zarr has all planes and channels of an image, in full size."


def main() -> None:
    """Declare the parameters (for a dialog the script ends here), then export and send."""
    execute(
        "_SLURM_Image_Transfer",
        "Export images as OME-Zarr, and send them to a folder on the cluster. SLURM Run Workflow does this itself.",
        parameters(),
        send_images,
    )


def parameters():
    """The fields of the dialog."""

    def string(name, grouping, description, default, values):
        choice = [rstring(value) for value in values]
        return omero.scripts.String(
            name, optional=True, grouping=grouping, description=description, default=default, values=choice
        )

    def number(name, grouping):
        return omero.scripts.Int(name, optional=True, grouping=grouping, description=NO_EFFECT, min=1)

    def switch(name, grouping, default, description=NO_EFFECT):
        return omero.scripts.Bool(name, optional=True, grouping=grouping, default=default, description=description)

    z_sections = (transfer.Z_DEFAULT, transfer.Z_ALL, transfer.Z_MAXPROJ, transfer.Z_OTHER)
    t_sections = (transfer.T_DEFAULT, transfer.T_ALL, transfer.T_OTHER)
    zooms = [f"{percent}%" for percent in (25, 50, 100, 200, 300, 400)]
    return [
        omero.scripts.String(
            transfer.DATA_TYPE,
            optional=False,
            grouping="1",
            description="The type of the objects with these IDs.",
            values=[rstring(kind) for kind in TYPES],
            default=transfer.DATA_TYPE_IMAGE,
        ),
        omero.scripts.List(
            transfer.IDS, optional=False, grouping="2", description="The images, datasets or plates."
        ).ofType(rlong(0)),
        omero.scripts.String(
            transfer.FOLDER,
            optional=True,
            grouping="3",
            description="Name of the folder on the cluster, below the data folder. If it exists, the images are added. "
            "Empty: a new name.",
        ),
        switch(CLEANUP, "4", True, "No effect: nothing is left in OMERO."),
        switch(transfer.SETTINGS, "5", True),
        string(
            transfer.FORMAT,
            "5.1",
            f"Images are exported as {transfer.FORMAT_OMEZARR}. For TIFF, run SLURM Remote Conversion afterwards.",
            transfer.FORMAT_OMEZARR,
            FORMATS,
        ),
        string(
            transfer.OME_VERSION,
            "5.2",
            f"Images are exported as OME-Zarr {transfer.OME_ZARR_VERSION_0_4}.",
            transfer.OME_ZARR_VERSION_0_4,
            (transfer.OME_ZARR_VERSION_0_4, transfer.OME_ZARR_VERSION_0_5),
        ),
        switch(transfer.MERGED, "5.5", True),
        switch(transfer.CHANNELS, "5.6", False),
        switch(transfer.CHANNELS_GREY, "5.6.1", False),
        omero.scripts.List(transfer.CHANNELS_NAMES, optional=True, grouping="5.6.2", description=NO_EFFECT),
        string(transfer.Z, "5.7", NO_EFFECT, transfer.Z_DEFAULT, z_sections),
        number(transfer.Z_IDX, "5.7.1"),
        number(transfer.Z_IDX_START, "5.7.2"),
        number(transfer.Z_IDX_END, "5.7.3"),
        string(transfer.T, "5.8", NO_EFFECT, transfer.T_DEFAULT, t_sections),
        number(transfer.T_IDX, "5.8.1"),
        number(transfer.T_IDX_START, "5.8.2"),
        number(transfer.T_IDX_END, "5.8.3"),
        string(transfer.ZOOM, "5.9", NO_EFFECT, transfer.ZOOM_100, zooms),
    ]


def send_images(script: Script) -> str:
    """Export the images and send them to the folder."""
    import tempfile
    from pathlib import Path

    from biomeroworker.deployment.data_folders import INPUT, DataFolders
    from biomeroworker.deployment.deployment import Deployment
    from biomeroworker.deployment.run_actions import Requester
    from biomeroworker.domain.manifest import InputManifest
    from biomeroworker.domain.source import NoGuard
    from biomeroworker.errors import RequestRejected
    from biomeroworker.omero.exporting.describe import select, wanted
    from biomeroworker.omero.exporting.export import export

    given = script.inputs
    if (kind := given.get(transfer.FORMAT)) not in (None, "", transfer.FORMAT_OMEZARR):
        raise RequestRejected(
            f"{transfer.FORMAT} {kind} is not possible: select {transfer.FORMAT_OMEZARR}; if you need TIFF, run"
            " SLURM Remote Conversion on the folder afterwards"
        )
    if (version := given.get(transfer.OME_VERSION)) not in (None, "", transfer.OME_ZARR_VERSION_0_4):
        raise RequestRejected(f"images are exported as OME-Zarr {transfer.OME_ZARR_VERSION_0_4}, not {version}")
    name = str(given.get(transfer.FOLDER) or "").strip()
    name = name or f"{transfer.FOLDER_DEFAULT}{datetime.now(UTC):%Y%m%d_%H%M%S}"
    kind, ids = wanted({"type": given.get(transfer.DATA_TYPE), "ids": given.get(transfer.IDS)})
    with Deployment.load() as deployment, tempfile.TemporaryDirectory(prefix="biomeroworker-") as local:
        folders = DataFolders(deployment, Requester(script.account.user, script.account.is_admin))
        folders.path(name)
        with script.session() as session:
            selection = select(session, kind, ids)
            images = export(session, selection, Path(local), lambda done, text: print(f"{done:.0%} {text}"), NoGuard())
        script.report(f"{len(images)} images are exported; sending them to the cluster")
        sent = folders.send(name, Path(local), manifest=InputManifest(run=name, images=tuple(images)))
        path = folders.path(name)
    return f"{len(images)} images ({sent.size / 1e6:.1f} MB) are in the folder {name} on the cluster: {path}/{INPUT}"


if __name__ == "__main__":
    main()
