"""What OMERO raises, classed."""

import Glacier2
import Ice
import omero.clients
import pytest

from biomeroworker.errors import Blocked, ConfigError, Permanent, RequestRejected, Transient
from biomeroworker.eventlog.store.fence import LeaseLost
from biomeroworker.omero.connection.errors import fault_of, translate_errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Ice.ConnectionLostException(), Transient),
        (Ice.ConnectTimeoutException(), Transient),
        (Ice.ConnectionTimeoutException(), Transient),
        (Ice.InvocationTimeoutException(), Transient),
        (Ice.ObjectNotExistException(), Transient),
        (omero.RemovedSessionException(None, None, "gone"), Transient),
        (omero.DatabaseBusyException(None, None, "busy", 100), Transient),
        (omero.MissingPyramidException(None, None, "none yet", 5000, 1), Transient),
        (omero.ResourceError(None, None, "no table"), Transient),
        (omero.InternalException(None, None, "boom"), Transient),
        (Glacier2.PermissionDeniedException("wrong password"), Blocked),
        (omero.SecurityViolation(None, None, "not yours"), Blocked),
        (omero.ApiUsageException(None, None, "wrong"), Permanent),
        (omero.ValidationException(None, None, "bad HQL"), Permanent),
        (Ice.UnknownLocalException("?"), Transient),
        (Ice.UnknownException("?"), Permanent),
        (ValueError("ours"), Permanent),
        (OSError(28, "No space left on device"), Blocked),
    ],
)
def test_each_error_has_its_class(error, kind):
    fault = fault_of(error, "read image 3")
    assert type(fault) is kind
    assert str(fault).startswith("could not read image 3: ")


def test_a_missing_pyramid_has_the_servers_waiting_time_in_its_hint():
    assert "5 s" in fault_of(omero.MissingPyramidException(None, None, "x", 5000, 1), "read").hint


def test_a_java_stack_trace_is_not_in_the_message():
    error = omero.InternalException("ome.x\n\tat ome.y", None, "first line\n\tat ome.services.Blitz(Blitz.java:3)")
    assert str(fault_of(error, "query")) == "could not query: InternalException: first line"


def test_a_fault_passes_unchanged():
    with pytest.raises(Blocked, match=r"^mine$"), translate_errors("do it"):
        raise Blocked("mine")


@pytest.mark.parametrize(
    "error", [LeaseLost("another supervisor"), RequestRejected("no"), ConfigError("wrong"), Permanent("mine")]
)
def test_our_own_errors_are_no_verdict_on_what_was_being_done(error):
    with pytest.raises(type(error)) as raised, translate_errors("read image 3"):
        raise error
    assert raised.value is error
    assert raised.value.__cause__ is None
