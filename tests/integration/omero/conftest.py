"""The OMERO.server of these tests: the one that the environment names, otherwise that of the sandbox.

``OMERO_HOST``, ``OMERO_PORT`` and ``OMERO_ROOT_PASSWORD`` name a server of any kind. Each test creates its own user,
group and data, so that tests can run in parallel and on a server with other data.
"""

from __future__ import annotations

import os

import pytest

from biomeroworker.omero.connection.session import OmeroSession
from tests.integration.omero.omero_objects import Person, Server, make_group, make_person


@pytest.fixture(scope="session")
def server(request) -> Server:
    if not os.environ.get("OMERO_HOST"):
        sandbox = request.getfixturevalue("sandbox")
        sandbox.up("tables", "glacier2")
        return Server("127.0.0.1", int(sandbox.env["OMERO_PORT"]), sandbox.env["OMERO_ROOT_PASSWORD"])
    return Server(os.environ["OMERO_HOST"], int(os.environ["OMERO_PORT"]), os.environ["OMERO_ROOT_PASSWORD"])


@pytest.fixture
def person(server) -> Person:
    """An ordinary user in a read-annotate group of this test alone."""
    return make_person(server, make_group(server, "rwra--"))


@pytest.fixture
def session(server, person):
    with OmeroSession.login(server.host, server.port, person.name, person.password) as session:
        yield session
