"""A server that takes the connection and goes silent: nothing waits for it for ever."""

import socket
import threading
import time

import pytest

from biomeroworker.errors import Transient
from biomeroworker.omero.connection import session as sessions
from biomeroworker.omero.connection.credentials import GridProvider
from biomeroworker.omero.connection.session import OmeroSession

#: Ice's greeting to a client: a connection that stands (protocol 1.0, encoding 1.0, "validate", no body).
VALIDATE = b"IceP\x01\x00\x01\x00\x03\x00\x0e\x00\x00\x00"


@pytest.fixture
def silent(request):
    """The port of a listener that accepts, and never answers a call."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken = []

    def take():
        while True:
            try:
                taken.append(listener.accept()[0])
                taken[-1].sendall(getattr(request, "param", b""))
            except OSError:
                return

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.close()
    for connection in taken:
        connection.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for name in ("ANSWER_TIMEOUT_MS", "CONNECT_TIMEOUT_MS", "CLOSE_TIMEOUT_MS"):
        monkeypatch.setattr(sessions, name, 500)


def test_a_login_that_is_not_answered_is_tried_again(silent):
    started = time.monotonic()
    with pytest.raises(Transient):
        OmeroSession.login("127.0.0.1", silent, "root", "x")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    "silent", [b"", VALIDATE], indirect=True, ids=["sends nothing", "greets and sends nothing more"]
)
def test_a_registry_that_does_not_answer_is_tried_again(silent):
    provider = GridProvider.at(f"IceGrid/Locator:tcp -h 127.0.0.1 -p {silent}", "127.0.0.1", 1)
    started = time.monotonic()
    with pytest.raises(Transient):
        provider.open(-1, -1)
    assert time.monotonic() - started < 15
