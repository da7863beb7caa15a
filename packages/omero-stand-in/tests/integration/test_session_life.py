"""Logging in through the real router, joining, acting for others, and the end of a session."""

import time

import Glacier2
import Ice
import omero
import omero.clients
import omero.cmd
import pytest
from omero.rtypes import rint, rlong, rstring

PASSWORD = "not-a-secret"


def test_a_wrong_password_is_refused_with_the_users_id(login, new_user):
    name = new_user()
    with pytest.raises(Glacier2.PermissionDeniedException) as refused:
        login(name, "wrong")
    assert refused.value.reason.startswith(f"Password check failed for '{name}': [id=")


def test_an_unknown_group_at_login_is_refused_by_name(stand_in, new_user):
    client = omero.client(stand_in.host, stand_in.port)
    client.getImplicitContext().put("omero.group", "no such group")
    try:
        with pytest.raises(omero.WrappedCreateSessionException) as refused:
            client.createSession(new_user(), PASSWORD)
        assert refused.value.reason == "No such group: no such group"
    finally:
        client.closeSession()


def test_who_joins_shares_the_session(ada, login):
    uuid = ada.getSessionId()
    other = login(uuid, uuid)
    ada.setOutput("done", rstring("yes"))
    assert other.getSessionId() == uuid
    assert other.getOutput("done", unwrap=True) == "yes"
    assert ada.sf.getSessionService().getReferenceCount(uuid) == 2


def test_a_session_ends_with_its_last_client_unless_detached(login, new_user):
    name = new_user()
    detached, gone = login(name), login(name)
    detached.sf.detachOnDestroy()
    uuids = detached.getSessionId(), gone.getSessionId()
    detached.closeSession()
    gone.closeSession()
    login(uuids[0], uuids[0])
    with pytest.raises(Glacier2.PermissionDeniedException):
        login(uuids[1], uuids[1])


def test_a_session_ends_when_it_was_idle_too_long(root, login, new_user):
    principal = omero.sys.Principal(new_user(), None, "User")
    session = root.sf.getSessionService().createSessionWithTimeouts(principal, 0, 300)
    time.sleep(0.6)
    with pytest.raises(Glacier2.PermissionDeniedException):
        login(session.uuid.val, session.uuid.val)


def test_the_first_call_after_the_idle_time_is_a_timeout_and_the_next_finds_no_object(ada):
    query = ada.sf.getQueryService()
    request = omero.cmd.UpdateSessionTimeoutRequest(ada.getSessionId(), None, rlong(300))
    ada.submit(request)
    time.sleep(0.8)
    with pytest.raises(omero.SessionTimeoutException, match=r"exceeded timeToIdle \(300\) by \d+ ms"):
        query.find("Dataset", 1)
    with pytest.raises(Ice.ObjectNotExistException):
        query.find("Dataset", 1)


def test_an_administrator_acts_for_a_user_and_is_named(root, login, new_user):
    name = new_user()
    session = root.sf.getSessionService().createSessionWithTimeout(omero.sys.Principal(name, None, "Task"), 60000)
    context = login(session.uuid.val, session.uuid.val).sf.getAdminService().getEventContext()
    assert (context.userName, context.sudoerName.val, context.eventType) == (name, "root", "Task")


def test_a_user_may_not_act_for_another(ada, new_user):
    with pytest.raises(omero.SecurityViolation, match="Group sudo is not permitted"):
        ada.sf.getSessionService().createSessionWithTimeout(omero.sys.Principal(new_user(), None, "User"), 60000)


def test_the_group_of_a_call_must_be_the_callers(ada, new_group):
    with pytest.raises(omero.SecurityViolation, match="is not a member of group"):
        ada.sf.getAdminService().getEventContext({"omero.group": str(new_group())})


def test_closing_a_session_closes_what_it_held_open(root, ada):
    store = ada.sf.createRawFileStore()
    session = omero.model.SessionI()
    session.uuid = rstring(ada.getSessionId())
    root.sf.getSessionService().closeSession(session)
    with pytest.raises(Ice.ObjectNotExistException):
        store.getFileId()


def test_an_operation_that_is_not_implemented_is_refused_by_its_name(ada):
    with pytest.raises(omero.ApiUsageException, match=r"omero\.api\.IConfig\.|omero\.api\.ServiceFactory\.subscribe"):
        ada.sf.subscribe("/public/HeartBeat", ada.sf)
    with pytest.raises(omero.ApiUsageException, match=r"omero\.api\.IShare is not implemented"):
        ada.sf.getShareService()


def test_a_plain_user_cannot_idle_for_ever_an_administrator_can(root, ada):
    request = omero.cmd.UpdateSessionTimeoutRequest(ada.getSessionId(), None, rlong(86_400_000))
    ada.submit(request)
    service = ada.sf.getSessionService()
    assert service.getSession(ada.getSessionId()).timeToIdle.val == 6_000_000
    root.submit(request)
    assert service.getSession(ada.getSessionId()).timeToIdle.val == 86_400_000


def test_an_unencrypted_connection_joins_the_same_session(ada):
    data = ada.createClient(False)
    try:
        assert not data.isSecure()
        assert data.getSessionId() == ada.getSessionId()
    finally:
        data.closeSession()


def test_a_null_input_is_refused(ada):
    ada.setInput("number", rint(3))
    with pytest.raises(omero.ApiUsageException, match="Can't handle input class"):
        ada.setInput("number", None)
    assert ada.getInput("number", unwrap=True) == 3


def test_a_session_that_is_gone_is_closed_with_a_number_and_not_with_an_error(ada, root):
    service, session = root.sf.getSessionService(), omero.model.SessionI()
    session.uuid = rstring(ada.getSessionId())
    assert service.closeSession(session) == -2
    assert service.closeSession(session) == -1


def test_a_user_cannot_create_a_further_session_without_an_idle_limit(ada):
    service = ada.sf.getSessionService()
    with pytest.raises(omero.SecurityViolation, match="Cannot disable timeToIdle"):
        service.createUserSession(0, 0, "")
    further = service.createUserSession(0, 10**9, "")
    assert further.timeToIdle.val == 6_000_000
    assert service.getMyOpenSessions()[0].uuid.val == further.uuid.val
