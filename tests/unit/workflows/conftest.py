"""Fixtures for tests of descriptors."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.unit.workflows.descriptor_server import Handler, Site


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site(("127.0.0.1", 0), Handler)
    server.pages, server.requested = {}, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
