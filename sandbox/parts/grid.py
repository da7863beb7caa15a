"""OMERO.grid: IceGrid's registry and node and the Glacier2 router from Debian, and the servers that the node starts."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from pathlib import Path

from sandbox.deployment import config_path
from sandbox.errors import PartError, Unhealthy
from sandbox.part import Part, Provision
from sandbox.parts.postgres import Postgres
from sandbox.root import Root

CHECKOUT = Path(__file__).parents[2]
#: The folder whose `runProcessor` module must be found before the one of omero-py.
NODE_MODULES = CHECKOUT / "biomeroworker/node"
APPLICATION = "OMERO"
#: How often a server may end at once before that is taken for its answer.
TRIES = 3
#: Variables of the one who calls `up` that the grid's servers see too.
PASSED_ON = ("BIOMERO", "SQLALCHEMY_URL", "OMERO_LOG_LEVEL", "SSH_AUTH_SOCK")


def icegridadmin(part: Part, command: str, timeout: float = 10) -> str:
    """Ask IceGrid's registry."""
    config = part.root.path / "etc/icegrid-admin.cfg"
    return part.ask(["icegridadmin", f"--Ice.Config={config}", "-e", command], timeout=timeout)


def greet(port: int) -> None:
    """Connect to an Ice server, which speaks first; one that hangs accepts the connection and stays silent."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            if connection.recv(4) != b"IceP":
                raise Unhealthy(f"what listens on port {port} does not speak Ice")
    except OSError as refused:
        raise Unhealthy(f"port {port}: {refused}") from refused


def ssl_port(root: Root) -> int:
    """Where clients log in."""
    return root.port("glacier2")


class IceGridRegistry(Part):
    """The locator."""

    name = "icegrid-registry"
    programs = ("icegridregistry", "icegridadmin")

    def prepare(self) -> None:
        """Write its configuration and that of icegridadmin."""
        etc = self.root.folder("etc")
        values = {"data": self.root.folder("grid/registry", 0o700), "port": self.port, "registry": self.port}
        self.write("icegrid-registry.cfg", etc / "icegrid-registry.cfg", values)
        self.write("icegrid-admin.cfg", etc / "icegrid-admin.cfg", values)

    def command(self) -> list[str]:
        """In the foreground."""
        return ["icegridregistry", f"--Ice.Config={self.root.path / 'etc/icegrid-registry.cfg'}"]

    def probe(self) -> str:
        """Icegridadmin gets an answer."""
        return f"icegridadmin: {icegridadmin(self, 'registry list').strip()}"


class IceGridNode(Part):
    """What starts OMERO's servers, restarts them when they die, and ends them when it ends."""

    name = "icegrid-node"
    needs = ("icegrid-registry",)
    listens = False
    owns_children = True  # a killed node's servers run on, and a new node would start each a second time
    programs = ("icegridnode",)
    patience = 30.0

    def prepare(self) -> None:
        """Write the configuration and the servers' password file."""
        password = self.root.path / "etc/omero-root-password"
        password.touch(mode=0o600)
        password.write_text(self.root.secret("omero-root"))
        values = {
            "registry": self.root.port("icegrid-registry"),
            "data": self.root.folder("grid/node", 0o700),
            "logs": self.root.folder("log"),
        }
        self.write("icegrid-node.cfg", self.root.folder("etc") / "icegrid-node.cfg", values)

    def command(self) -> list[str]:
        """In the foreground."""
        return ["icegridnode", f"--Ice.Config={self.root.path / 'etc/icegrid-node.cfg'}"]

    def environment(self) -> dict[str, str]:
        """The servers' environment too: the module path with our `runProcessor` first, and where the run log is."""
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        run_log = {"SQLALCHEMY_URL": Postgres(self.root).url()} if "postgres" in self.root.asked() else {}
        return {
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{NODE_MODULES}:{CHECKOUT}",
            "PYTHONUNBUFFERED": "1",
            "OMERO_STARTUP_WAIT": "0",  # else omero-py's servers sit still for ten seconds
            "OMERO_ROOT_PASSWORD_FILE": str(self.root.path / "etc/omero-root-password"),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "OMERO_HOST": "127.0.0.1",
            "OMERO_PORT": str(ssl_port(self.root)),
            **run_log,
            **passed_on,
            "BIOMERO_CONFIG": str(config_path(self.root.path)),
        }

    def probe(self) -> str:
        """The registry knows the node and can reach it."""
        if "is up" not in icegridadmin(self, "node ping master"):
            raise Unhealthy("the registry cannot reach it")
        return "icegridadmin: node is up"


class GridServer(Provision):
    """A server of the application; the node starts it and keeps it running."""

    needs: tuple[str, ...] = ("icegrid-node",)
    server: str
    #: As IceGrid knows it.
    adapter: str
    patience = 60.0
    #: Seconds it must live after it was first seen active: omero-py's servers activate before they are done starting.
    trial = 0.5

    @property
    def log(self) -> Path:
        """Its own log if it writes one (omero-py's servers do), else what it prints, which the node writes."""
        own = self.root.path / "log" / f"{self.server}.log"
        return own if own.exists() else own.with_suffix(".out")

    def _state(self) -> str:
        return icegridadmin(self, f"server state {self.server}").strip()

    def pid(self) -> int | None:
        """As the node knows it."""
        try:
            found = re.search(r"pid = (\d+)", self._state())
        except Unhealthy:
            return None
        return int(found[1]) if found else None

    def make(self) -> None:
        """Give the registry the application as it is now; wait until the server is active."""
        known = APPLICATION in icegridadmin(self, "application list").split()
        icegridadmin(self, f"application {'update' if known else 'add'} '{self._descriptor()}'", timeout=60)
        self._failures = 0
        self.wait(self._activate)
        time.sleep(self.trial)
        self.wait(self._activate)

    def _activate(self) -> None:
        """Start it if it is not starting: the node does so by itself only once, and late."""
        if self._state().startswith("inactive"):
            if self._failures == TRIES:
                raise PartError(self.name, f"ended {TRIES} times as soon as it was started", self.log, lines=30)
            self._failures += 1
            icegridadmin(self, f"server enable {self.server}")
            icegridadmin(self, f"server start {self.server}", timeout=self.patience)
        self.probe()

    def _descriptor(self) -> Path:
        """Servers that were not asked for, or not yet, are in the grid but not started."""
        started = {
            server: server.pid() is not None for server in (Blitz(self.root), Tables(self.root), Processor(self.root))
        }
        activation = {
            server.name: "always" if running or server.name == self.name else "manual"
            for server, running in started.items()
        }
        values = {
            "python": sys.executable,
            "logs": self.root.path / "log",
            "data": self.root.folder("grid/omero", 0o700),
            "work": self.root.folder("grid/work", 0o700),
            "tcp": self.root.port("glacier2-tcp"),
        }
        return self.write("grid.xml", self.root.folder("etc") / "grid.xml", {**values, **activation})

    def probe(self) -> str:
        """The node says that it is active, and it greets."""
        state = self._state()
        if not state.startswith("active"):
            raise Unhealthy(f"{self.server} is {state}")
        endpoints = icegridadmin(self, f"adapter endpoints {self.adapter}")
        if (found := re.search(r"tcp .*?-p (\d+)", endpoints)) is None:
            raise Unhealthy(f"{self.adapter} is not active")
        greet(int(found[1]))
        return f"{self.server} active, Ice on {found[1]}"


class Blitz(GridServer):
    """The stand-in for OMERO.blitz."""

    name = "blitz"
    server = "Blitz-0"
    adapter = "BlitzAdapter"
    trial = 0.0


class Tables(GridServer):
    """OMERO's real Tables server."""

    name = "tables"
    needs = ("icegrid-node", "blitz")
    server = "Tables-0"
    adapter = "Tables-0.TablesAdapter"


class Processor(GridServer):
    """Our Processor, as OMERO's grid starts it."""

    name = "processor"
    needs = ("icegrid-node", "blitz")
    server = "Processor-0"
    adapter = "Processor-0.ProcessorAdapter"


class Glacier2(Part):
    """The router: ``ssl`` for clients as they come, ``tcp`` for those that ask for an unencrypted connection."""

    name = "glacier2"
    needs = ("icegrid-registry", "blitz")
    programs = ("glacier2router", "openssl")

    def prepare(self) -> None:
        """Make a certificate once (clients do not verify it, as with a fresh OMERO.server); write the configuration."""
        certificates = self.root.folder("etc/glacier2", 0o700)
        if not (certificates / "server.pem").exists():
            subject = ["-subj", "/CN=localhost", "-days", "3650"]
            files = ["-keyout", str(certificates / "server.key"), "-out", str(certificates / "server.pem")]
            self.insist(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], timeout=30)
        values = {
            "registry": self.root.port("icegrid-registry"),
            "certificates": certificates,
            "ssl": ssl_port(self.root),
            "tcp": self.root.port("glacier2-tcp"),
        }
        self.write("glacier2.cfg", self.root.folder("etc") / "glacier2.cfg", values)

    def command(self) -> list[str]:
        """In the foreground."""
        return ["glacier2router", f"--Ice.Config={self.root.path / 'etc/glacier2.cfg'}"]

    def probe(self) -> str:
        """Both of its ports can be connected to; the unencrypted one says Ice's greeting at once."""
        tcp, ssl = self.root.port("glacier2-tcp"), ssl_port(self.root)
        greet(tcp)
        try:
            socket.create_connection(("127.0.0.1", ssl), timeout=5).close()
        except OSError as refused:
            raise Unhealthy(f"port {ssl}: {refused}") from refused
        return f"Ice on {tcp}, SSL on {ssl}"
