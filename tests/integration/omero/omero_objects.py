"""Create users, groups and data on an OMERO.server."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
import omero.clients
import omero.model
from omero.rtypes import rbool, rstring

from biomeroworker.domain.manifest import PhysicalSize
from biomeroworker.omero.connection.credentials import PasswordProvider
from biomeroworker.omero.connection.session import OmeroSession
from biomeroworker.omero.importing.images import write_image
from biomeroworker.omero.importing.results import Pixels


@dataclass(frozen=True)
class Server:
    """The address of an OMERO.server, and the password of root."""

    host: str
    port: int
    password: str

    def root(self) -> OmeroSession:
        return OmeroSession.login(self.host, self.port, "root", self.password)

    def provider(self) -> PasswordProvider:
        return PasswordProvider(self.host, self.port, "root", self.password)


@dataclass(frozen=True)
class Person:
    """A user in a separate group."""

    id: int
    name: str
    group: int
    password: str = "some-thing-long"


def make_group(server: Server, permissions: str) -> int:
    with server.root() as root:
        group = omero.model.ExperimenterGroupI()
        group.name, group.ldap = rstring(f"g-{uuid.uuid4().hex[:10]}"), rbool(False)
        group.details.permissions = omero.model.PermissionsI(permissions)
        return root.sf.getAdminService().createGroup(group)


def make_person(server: Server, group: int) -> Person:
    with server.root() as root:
        admin = root.sf.getAdminService()
        user = omero.model.ExperimenterI()
        name = f"u-{uuid.uuid4().hex[:10]}"
        user.omeName, user.firstName, user.lastName = rstring(name), rstring("A"), rstring("Person")
        user.ldap = rbool(False)
        own = omero.model.ExperimenterGroupI(group, False)
        everybody = omero.model.ExperimenterGroupI(admin.getSecurityRoles().userGroupId, False)
        number = admin.createExperimenterWithPassword(user, rstring(Person.password), own, [everybody])
        return Person(number, name, group)


def make_image(session: OmeroSession, name: str, values, *, sizes=None, channels=(), dataset=None) -> int:
    """An image of TCZYX values."""
    pixels = Pixels(values, {axis: PhysicalSize(value=value) for axis, value in (sizes or {}).items()}, channels)
    types = {entry.value.val: entry for entry in session.query("select t from PixelsType t")}

    class Picture:
        pass

    picture = Picture()
    picture.name, picture.mark, picture.read = name, "made by a test", lambda: pixels
    image = write_image(session.sf, picture, types)
    if dataset is not None:
        link = omero.model.DatasetImageLinkI()
        link.parent, link.child = omero.model.DatasetI(dataset, False), omero.model.ImageI(image, False)
        session.save([link])
    return image


def make_dataset(session: OmeroSession, name="d", project=None) -> int:
    dataset = omero.model.DatasetI()
    dataset.name = rstring(name)
    if project:
        dataset.linkProject(omero.model.ProjectI(project, False))
    return session.save_and_return([dataset])[0].id.val


def make_project(session: OmeroSession, name="p") -> int:
    project = omero.model.ProjectI()
    project.name = rstring(name)
    return session.save_and_return([project])[0].id.val


def make_plate(session: OmeroSession, wells: dict[tuple[int, int], list[int]]) -> int:
    """A plate whose wells (row, column) hold images."""
    plate = omero.model.PlateI()
    plate.name = rstring("plate 1")
    number = session.save_and_return([plate])[0].id.val
    for (row, column), images in wells.items():
        well = omero.model.WellI()
        well.row, well.column = omero.rtypes.rint(row), omero.rtypes.rint(column)
        well.plate = omero.model.PlateI(number, False)
        for image in images:
            sample = omero.model.WellSampleI()
            sample.image = omero.model.ImageI(image, False)
            well.addWellSample(sample)
        session.save_and_return([well])
    return number


def noise(*shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)
