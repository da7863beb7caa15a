"""One stand-in server, behind a real router, for the tests of this folder; and people on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import omero
import omero.clients
import omero.model
import pytest
from omero.rtypes import rbool, rstring

from omero_stand_in import testing

PASSWORD = "not-a-secret"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> Iterator[testing.Running]:
    """A server that holds nothing yet."""
    folder = tmp_path_factory.mktemp("stand-in")
    with testing.running(folder / "data", log=folder / "server.log") as server:
        yield server


@pytest.fixture
def login(stand_in) -> Iterator[Callable[..., omero.client]]:
    """Log in as a user; every client is closed at the end of the test."""
    clients = []

    def connect(user: str, password: str = PASSWORD) -> omero.client:
        client = omero.client(stand_in.host, stand_in.port)
        clients.append(client)
        client.createSession(user, password)
        return client

    yield connect
    for client in clients:
        client.closeSession()


@pytest.fixture
def root(stand_in, login) -> omero.client:
    """The administrator."""
    return login("root", stand_in.root_password)


@pytest.fixture
def new_group(root) -> Callable[[str], int]:
    """Make a group of a level; returns its id."""

    def make(level: str = "rwr---") -> int:
        group = omero.model.ExperimenterGroupI()
        group.name, group.ldap = rstring(f"group-{uuid.uuid4().hex[:8]}"), rbool(False)
        group.details.permissions = omero.model.PermissionsI(level)
        return root.sf.getAdminService().createGroup(group)

    return make


@pytest.fixture
def new_user(root, new_group) -> Callable[..., str]:
    """Make a user in groups, the first of which is the default; returns the login name."""

    def make(*groups: int) -> str:
        chosen = [omero.model.ExperimenterGroupI(number, False) for number in groups or (new_group(),)]
        user, name = omero.model.ExperimenterI(), f"user-{uuid.uuid4().hex[:8]}"
        user.omeName, user.firstName, user.lastName = rstring(name), rstring("Ada"), rstring("Tester")
        user.ldap = rbool(False)
        everybody = omero.model.ExperimenterGroupI(1, False)
        service = root.sf.getAdminService()
        service.createExperimenterWithPassword(user, rstring(PASSWORD), chosen[0], [*chosen[1:], everybody])
        return name

    return make


@pytest.fixture
def ada(login, new_user) -> omero.client:
    """A plain user, logged in."""
    return login(new_user())
