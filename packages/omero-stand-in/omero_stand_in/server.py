"""The server process: its communicator, its adapter, and what every service shares."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import Ice
import omero
import omero.clients

from . import glacier
from .accounts import GUEST, ROOT, Accounts
from .config import Config
from .context import ALL_GROUPS, Call, Calls
from .files_on_disk import Disk
from .graph import Graph
from .sessions import Sessions

log = logging.getLogger(__name__)

ADAPTER = "BlitzAdapter"
#: Defaults; the configuration from IceGrid or the caller overrides them.
PROPERTIES = {
    "Ice.ThreadPool.Server.Size": "10",
    "Ice.ThreadPool.Server.SizeMax": "60",
    "Ice.MessageSizeMax": "250000",
    "Ice.ImplicitContext": "Shared",
    "Ice.Default.Host": "127.0.0.1",
    "Ice.ACM.Client.Close": "0",
    "Ice.Warn.Connections": "0",
    f"{ADAPTER}.Endpoints": "tcp -h 127.0.0.1",
}


class Server:
    """Everything that one running server holds; services reach it as ``self.server`` and ``call.server``."""

    def __init__(self, communicator: Ice.Communicator, data: Path, root_password: str | None = None) -> None:
        self.communicator, self.data = communicator, data
        data.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(data)
        self.graph = Graph.open(data)
        self.accounts = Accounts(self.graph)
        self.config = Config(self)
        self.sessions = Sessions(self)
        self.calls = Calls(self)
        if root_password is not None:
            self.accounts.set_password(ROOT, root_password)
        if not self.accounts.has_password(GUEST):
            self.accounts.set_password(GUEST, "")
        self.adapter: Ice.ObjectAdapter = communicator.createObjectAdapter(ADAPTER)
        self._internal = None

    def start(self) -> None:
        """Begin to answer."""
        identity = self.communicator.stringToIdentity
        self.adapter.add(glacier.Verifier(self), identity("BlitzVerifier"))
        self.adapter.add(glacier.Manager(self), identity("BlitzManager"))
        self.sessions.start()
        self.adapter.activate()
        from .services import internal_repository

        internal_repository.publish(self)

    def stop(self) -> None:
        """Close all sessions and files; the communicator is its maker's to destroy."""
        self.adapter.deactivate()
        self.sessions.stop()
        self.graph.close()

    def root_call(self, group_id: int = ALL_GROUPS) -> Call:
        """A call that the server makes itself, as root, in a session of its own that no client sees."""
        if self._internal is None or self._internal.closed:
            self._internal = self.sessions.create(ROOT, event_type="Internal", agent="server", time_to_idle=0)
        return self.calls.of(self._internal, {"omero.group": str(group_id)})

    def call_as(self, call: Call, **context: str) -> Call:
        """The same caller with other values in its context, e.g. ``omero_group="-1"``."""
        changed = {**call.context, **{key.replace("_", "."): value for key, value in context.items()}}
        return self.calls.of(call.session, changed, call.current)


def initialize(arguments: Sequence[str] = (), **properties: str) -> Ice.Communicator:
    """A communicator with this server's defaults, the given properties and those of an Ice command line."""
    data = Ice.InitializationData()
    data.properties = Ice.createProperties(list(arguments))
    for prefix in (ADAPTER, "omero"):
        data.properties.parseCommandLineOptions(prefix, list(arguments))
    for key, value in {**PROPERTIES, **properties}.items():
        if not data.properties.getProperty(key):
            data.properties.setProperty(key, value)
    communicator = Ice.initialize(data)
    from omero.ObjectFactoryRegistrar import registerObjectFactory

    registerObjectFactory(communicator, None)
    for factory in omero.rtypes.ObjectFactories.values():
        factory.register(communicator)
    return communicator
