"""How a call reaches a service: refusals by name, faults, groups, passwords. No router is needed for that."""

import omero
import omero.clients
import pytest

from omero_stand_in.context import Call
from omero_stand_in.servant import Service, operations, servant_of
from omero_stand_in.server import Server, initialize


class Settings(Service):
    """Two operations out of a dozen."""

    interface = omero.api.IConfig

    def getVersion(self, call):
        return f"{call.user_id} {Call.now() is call}"

    def getConfigValue(self, call, key):
        raise LookupError(key)


@pytest.fixture
def server(tmp_path):
    communicator = initialize()
    server = Server(communicator, tmp_path, "root's own")
    server.start()
    yield server
    server.stop()
    communicator.destroy()


@pytest.fixture
def proxy(server):
    session = server.sessions.create(0)
    return session.register(Settings(server, session)).ice_collocationOptimized(False)


def test_a_method_answers_for_its_operation(proxy):
    assert proxy.getVersion() == "0 True"


def test_an_operation_without_a_method_is_refused_by_its_name(proxy):
    with pytest.raises(omero.ApiUsageException, match=r"omero\.api\.IConfig\.getDatabaseUuid is not implemented"):
        proxy.getDatabaseUuid()


def test_a_fault_is_an_internal_exception_with_its_cause(proxy):
    with pytest.raises(omero.InternalException, match="LookupError"):
        proxy.getConfigValue("x")


def test_a_group_that_is_not_there_is_refused_before_the_operation(proxy):
    with pytest.raises(omero.ValidationException, match=r"ExperimenterGroup#999"):
        proxy.getVersion({"omero.group": "999"})


def test_nonsense_in_place_of_a_group_is_ignored(proxy):
    assert proxy.getVersion({"omero.group": "nonsense"}) == "0 True"


def test_every_declared_operation_has_both_forms(server):
    servant = servant_of(Settings(server, server.sessions.create(0)))
    names = operations(omero.api.IConfig)
    assert {"getVersion", "setConfigValue", "getDatabaseUuid"} <= names
    assert all(hasattr(servant, name) and hasattr(servant, name + "_async") for name in names)


def test_passwords_are_stored_as_hashes_only(server, tmp_path):
    assert server.accounts.check_password(0, "root's own")
    assert not server.accounts.check_password(0, "")
    assert not any(b"root's own" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_user_without_a_password_cannot_log_in(server):
    server.accounts.set_password(0, None)
    assert not server.accounts.check_password(0, "")


def test_closing_a_session_marks_its_row_and_takes_its_services_away(server):
    session = server.sessions.create(0)
    proxy = session.register(Settings(server, session)).ice_collocationOptimized(False)
    assert server.sessions.close(session.uuid) == 0
    with pytest.raises(Exception, match="ObjectNotExist"):
        proxy.getVersion()
    with server.graph.transaction(server.graph.server()) as tx:
        assert tx.get("Session", session.row_id).get("closed") is not None
    with pytest.raises(omero.RemovedSessionException):
        server.sessions.get(session.uuid)


def test_sessions_that_a_killed_server_left_open_are_closed_by_the_next(tmp_path):
    communicator = initialize()
    first = Server(communicator, tmp_path)
    row = first.sessions.create(0).row_id
    first.graph.close()  # like a kill: the session is not closed
    communicator.destroy()
    communicator = initialize()
    second = Server(communicator, tmp_path)
    second.start()
    with second.graph.transaction(second.graph.server()) as tx:
        assert tx.get("Session", row).get("closed") is not None
    second.stop()
    communicator.destroy()
