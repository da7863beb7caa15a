"""Sessions for a run's user after that user has logged out: with a separate login, or from the grid."""

import contextlib
import socket
import threading
import time

import pytest

from biomeroworker.errors import Blocked, ConfigError, Transient
from biomeroworker.omero.connection import session as sessions
from biomeroworker.omero.connection.credentials import PasswordProvider, provider_from_environment
from biomeroworker.omero.connection.session import OmeroSession
from tests.integration.omero.omero_objects import make_group, make_person


def test_an_administrator_works_as_the_runs_user_in_the_runs_group(server, person):
    with server.provider().open(person.id, person.group) as session:
        assert (session.user_id, session.group_id) == (person.id, person.group)
        assert not session.sf.getAdminService().getEventContext().isAdmin


def test_a_session_for_a_run_ends_when_it_is_closed(server, person):
    with server.provider().open(person.id, person.group) as session:
        uuid = session.client.getSessionId()
    with pytest.raises((Blocked, Transient)):
        OmeroSession.join(server.host, server.port, uuid)


def test_a_user_needs_no_administrator_for_own_runs(server, person):
    provider = PasswordProvider(server.host, server.port, person.name, person.password)
    with provider.open(person.id, person.group) as session:
        assert session.user_id == person.id
    with provider.open(-1, -1) as session:
        assert session.user_id == person.id


def test_without_sudo_no_session_of_another_user_is_opened(server, person):
    other = make_person(server, make_group(server, "rw----"))
    provider = PasswordProvider(server.host, server.port, person.name, person.password)
    with pytest.raises(Blocked):
        provider.open(other.id, other.group)


@pytest.mark.parametrize("what", ["user", "group"])
def test_a_deleted_user_or_group_is_named(server, person, what):
    wanted = {"user": person.id, "group": person.group} | {what: 999999999}
    with pytest.raises(Blocked, match="999999999"):
        server.provider().open(wanted["user"], wanted["group"])


def test_a_wrong_password_is_blocked_and_not_shown(server):
    provider = PasswordProvider(server.host, server.port, "root", "hunter2")
    assert "hunter2" not in repr(provider)
    with pytest.raises(Blocked) as raised:
        provider.open(-1, -1)
    assert "hunter2" not in str(raised.value)


def test_an_unreachable_server_is_transient():
    with pytest.raises(Transient):
        PasswordProvider("127.0.0.1", 1, "root", "x").open(-1, -1)


def test_data_connections_belong_to_the_session_and_leave_it_open(server, person):
    with server.provider().open(person.id, person.group) as session:
        connections = session.data_connections(2)
        assert [sf.getAdminService().getEventContext().userId for sf in connections] == [person.id] * 2
        assert session.data_connections(2) == connections
        for client in session._extra:
            client.closeSession()
        session.sf.keepAlive(None)


def test_the_environment_selects_the_login(server, person):
    given = {"OMERO_HOST": server.host, "OMERO_PORT": str(server.port), "OMERO_PASSWORD": server.password}
    with provider_from_environment(given).open(person.id, person.group) as session:
        assert session.user_id == person.id
    with pytest.raises(ConfigError, match="OMERO_PASSWORD"):
        provider_from_environment({"OMERO_HOST": "h"})
    with pytest.raises(ConfigError, match="OMERO_PORT"):
        provider_from_environment({"OMERO_PORT": "x"})


def test_a_member_of_the_grid_needs_no_password(server, person, request):
    locator = request.getfixturevalue("sandbox").env.get("ICE_REGISTRY")
    if not locator:
        pytest.skip("the registry of this server is not known here")
    host, _, port = locator.partition(":")
    given = {
        "OMERO_HOST": server.host,
        "OMERO_PORT": str(server.port),
        "OMERO_LOCATOR": f"IceGrid/Locator:tcp -h {host} -p {port}",
    }
    with provider_from_environment(given).open(person.id, person.group) as session:
        assert (session.user_id, session.group_id) == (person.id, person.group)


@contextlib.contextmanager
def relay(host, port):
    """A relay to the server that can be silenced: its port, and the event that stops all data."""
    listener = socket.create_server(("127.0.0.1", 0))
    dumb, ends = threading.Event(), []

    def forward(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not dumb.is_set():
                    target.sendall(data)
            target.close()

    def take():
        with contextlib.suppress(OSError):
            while True:
                near, far = listener.accept()[0], socket.create_connection((host, port))
                ends.extend((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

    threading.Thread(target=take, daemon=True).start()
    try:
        yield listener.getsockname()[1], dumb
    finally:
        for one in (listener, *ends):
            one.close()


def test_a_server_that_stops_answering_is_not_waited_for(server, person, monkeypatch):
    """Neither the query nor the closing of the session waits."""
    monkeypatch.setattr(sessions, "ANSWER_TIMEOUT_MS", 3000)
    monkeypatch.setattr(sessions, "CLOSE_TIMEOUT_MS", 500)
    with relay(server.host, server.port) as (port, dumb):
        session = OmeroSession.login("127.0.0.1", port, person.name, person.password)
        started = time.monotonic()
        dumb.set()
        with pytest.raises(Transient, match="Timeout"), session:
            session.rows("select i.id from Image i")
        assert time.monotonic() - started < 20
