"""What the server keeps of the processors that have registered."""

import pytest

from omero_stand_in.server import Server, initialize
from omero_stand_in.services.processors import Processors


@pytest.fixture
def communicator():
    communicator = initialize()
    yield communicator
    communicator.destroy()


def names(server):
    return [proxy.ice_getIdentity().name for proxy in Processors.of(server).all()]


def test_subscriptions_outlive_the_server(communicator, tmp_path):
    server = Server(communicator, tmp_path)
    Processors.of(server).add(communicator.stringToProxy("Processor-7:tcp -h 127.0.0.1 -p 9"))
    server.stop()
    server.adapter.destroy()
    again = Server(communicator, tmp_path)
    assert names(again) == ["Processor-7"]
    again.stop()


def test_a_second_processor_of_the_same_identity_is_ignored(communicator, tmp_path):
    server = Server(communicator, tmp_path)
    known = Processors.of(server)
    known.add(communicator.stringToProxy("Processor:tcp -h 127.0.0.1 -p 9"))
    known.add(communicator.stringToProxy("Processor:tcp -h 127.0.0.1 -p 10"))
    assert [str(proxy).split("-p ")[1].split()[0] for proxy in known.all()] == ["9"]
    server.stop()


def test_a_dead_processor_gives_no_answer_and_is_removed(communicator, tmp_path):
    server = Server(communicator, tmp_path)
    known = Processors.of(server)
    known.add(communicator.stringToProxy("Gone:tcp -h 127.0.0.1 -p 9"))
    assert known.offer(server.root_call(0), None, 1) == (None, 0)
    assert names(server) == []
    server.stop()


def test_removing_what_was_never_added_does_nothing(communicator, tmp_path):
    server = Server(communicator, tmp_path)
    Processors.of(server).remove(communicator.stringToProxy("Stranger:tcp -h 127.0.0.1 -p 9"))
    assert names(server) == []
    server.stop()
