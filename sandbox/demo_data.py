"""The images of the demo in OMERO: imported before the run; results downloaded and scored after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import omero.clients  # first, because modules of omero-py import each other in a circle
import tifffile
from omero.gateway import BlitzGateway
from omero.model.enums import UnitsLength
from omero.rtypes import rbool, rstring

from sandbox.errors import SandboxError
from sandbox.images import Sample, samples
from sandbox.score import Score, overlay, score

#: The account and group of the demo, created once per server; the password changes with each demo.
USER, GROUP = "biomeroworker-demo", "biomeroworker-demo"


@dataclass(frozen=True)
class DemoData:
    """The imported objects."""

    user: str
    project: int
    dataset: int
    images: dict[str, int]


def put(address: tuple[str, int], root_password: str, password: str) -> DemoData:
    """Create the account, a project, a dataset, and the two images with pixel sizes and channel names."""
    _account(address, root_password, password)
    with _connected(address, USER, password) as connection:
        update = connection.getUpdateService()
        project = omero.model.ProjectI()
        project.name = rstring("biomeroworker demo")
        dataset = omero.model.DatasetI()
        dataset.name = rstring("nuclei")
        project.linkDataset(dataset)
        project = update.saveAndReturnObject(project)
        dataset_id = project.linkedDatasetList()[0].id.val
        made = {sample.name: _image(connection, dataset_id, sample) for sample in samples()}
        return DemoData(USER, project.id.val, dataset_id, made)


def _account(address: tuple[str, int], root_password: str, password: str) -> None:
    with _connected(address, "root", root_password) as connection:
        admin = connection.getAdminService()
        named = omero.sys.ParametersI().add("name", rstring(USER))
        known = connection.getQueryService().findByQuery("select e from Experimenter e where e.omeName = :name", named)
        if known is not None:
            admin.changeUserPassword(USER, rstring(password))
            return
        group = omero.model.ExperimenterGroupI()
        group.name, group.ldap = rstring(GROUP), rbool(False)
        group.details.permissions = omero.model.PermissionsI("rw----")
        group_id = admin.createGroup(group)
        new = omero.model.ExperimenterI()
        new.omeName, new.firstName, new.lastName = rstring(USER), rstring("Demo"), rstring("User")
        new.ldap = rbool(False)
        everyone = omero.model.ExperimenterGroupI(admin.getSecurityRoles().userGroupId, False)
        own = omero.model.ExperimenterGroupI(group_id, False)
        admin.createExperimenterWithPassword(new, rstring(password), own, [everyone])


def _image(connection: BlitzGateway, dataset_id: int, sample: Sample) -> int:
    planes = _zyx(tifffile.imread(sample.image))
    image = connection.createImageFromNumpySeq(
        iter(planes),
        sample.name,
        sizeZ=len(planes),
        sizeC=1,
        sizeT=1,
        dataset=connection.getObject("Dataset", dataset_id),
    )
    update = connection.getUpdateService()
    pixels = connection.getQueryService().get("Pixels", image.getPixelsId())
    for axis, value in sample.pixel_size.items():
        setattr(pixels, f"physicalSize{axis.upper()}", omero.model.LengthI(value, UnitsLength.MICROMETER))
    update.saveObject(pixels)
    connection.setChannelNames("Image", [image.getId()], {1: sample.channel})
    return int(image.getId())


def scores(address: tuple[str, int], data: DemoData, password: str, run: str, output: Path) -> dict[str, Score]:
    """Score the label image of each image against the ground truth; also writes ``overlay.png``."""
    found, rows = {}, []
    with _connected(address, data.user, password) as connection:
        for sample in samples():
            image, truth = tifffile.imread(sample.image), tifffile.imread(sample.truth)
            labels = _labels_of(connection, run, sample.name).reshape(truth.shape)
            found[f"{sample.name} (image {data.images[sample.name]})"] = score(truth, labels)
            rows.append((sample.name, image, truth, labels))
    overlay(rows, output / "overlay.png")
    return found


def _labels_of(connection: BlitzGateway, run: str, name: str) -> np.ndarray[Any, Any]:
    """The pixels (ZYX) of the run's label image for an image, found by its provenance annotation."""
    query = (
        "select i from Image i join i.annotationLinks l join l.child a, MapAnnotation m join m.mapValue v "
        "where m.id = a.id and v.name = 'Workflow_ID' and v.value = :run and i.name like :name"
    )
    parameters = omero.sys.ParametersI().add("run", rstring(run)).add("name", rstring(f"{name}%"))
    rows = connection.getQueryService().findAllByQuery(query, parameters)
    if len(rows) != 1:
        raise SandboxError(f"the run imported {len(rows)} label images for {name}, expected 1")
    image = connection.getObject("Image", rows[0].id.val)
    pixels = image.getPrimaryPixels()
    return np.stack(list(pixels.getPlanes([(z, 0, 0) for z in range(image.getSizeZ())])))


def _zyx(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return pixels if pixels.ndim == 3 else pixels[np.newaxis]


class _connected:  # noqa: N801  used like a function
    """A connected gateway for the duration of the block."""

    def __init__(self, address: tuple[str, int], user: str, password: str) -> None:
        self._gateway = BlitzGateway(user, password, host=address[0], port=address[1], secure=True)

    def __enter__(self) -> BlitzGateway:
        if not self._gateway.connect():
            raise SandboxError(f"OMERO refused the login of {self._gateway._username}: {self._gateway.getLastError()}")
        return self._gateway

    def __exit__(self, *_: object) -> None:
        self._gateway.close()
