"""Where the Processor listens, and which address OMERO.grid gives to others."""

import pytest

from biomeroworker.node.server import endpoints


def test_without_a_port_the_grid_decides():
    assert endpoints({}) == {}
    assert endpoints({"OMERO_WORKER_PUBLISHED_HOST": "worker", "OMERO_PROCESSOR_PORT": ""}) == {}


def test_a_port_alone_is_listened_on_and_published_with_the_hosts_own_addresses():
    assert endpoints({"OMERO_PROCESSOR_PORT": "4065"}) == {"ProcessorAdapter.Endpoints": "tcp -p 4065"}


def test_with_a_published_host_others_are_given_that():
    assert endpoints({"OMERO_PROCESSOR_PORT": "4065", "OMERO_WORKER_PUBLISHED_HOST": "fd00::1"}) == {
        "ProcessorAdapter.Endpoints": "tcp -p 4065",
        "ProcessorAdapter.PublishedEndpoints": 'tcp -h "fd00::1" -p 4065',
    }


def test_what_is_no_port_is_an_error():
    with pytest.raises(ValueError, match="ssl"):
        endpoints({"OMERO_PROCESSOR_PORT": "ssl"})
