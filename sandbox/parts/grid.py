"""OMERO.grid: registry and node of IceGrid and the Glacier2 router from Debian, and the servers of the node."""

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
#: The folder with the `runProcessor` module, which must precede that of omero-py.
NODE_MODULES = CHECKOUT / "biomeroworker/node"
APPLICATION = "OMERO"
#: Maximum number of starts of a server that ends immediately.
MAX_STARTS = 3
#: Prefixes of environment variables that `up` passes to the servers.
PASSED_ON = ("BIOMERO", "SQLALCHEMY_URL", "OMERO_LOG_LEVEL", "SSH_AUTH_SOCK")


def icegridadmin(part: Part, command: str, timeout: float = 10) -> str:
    """Run a command of icegridadmin and return its output."""
    config = part.root.path / "etc/icegrid-admin.cfg"
    return part.run_client(["icegridadmin", f"--Ice.Config={config}", "-e", command], timeout=timeout)


def check_ice_greeting(port: int) -> None:
    """Check that an Ice server sends its first message; a server that hangs accepts connections but sends nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            if connection.recv(4) != b"IceP":
                raise Unhealthy(f"the server on port {port} does not use the Ice protocol")
    except OSError as error:
        raise Unhealthy(f"port {port}: {error}") from error


def ssl_port(root: Root) -> int:
    """The port for the login of clients."""
    return root.port("glacier2")


class IceGridRegistry(Part):
    """The locator."""

    name = "icegrid-registry"
    programs = ("icegridregistry", "icegridadmin")

    def prepare(self) -> None:
        """Write the configurations of the registry and of icegridadmin."""
        etc = self.root.folder("etc")
        values = {"data": self.root.folder("grid/registry", 0o700), "port": self.port, "registry": self.port}
        self.write("icegrid-registry.cfg", etc / "icegrid-registry.cfg", values)
        self.write("icegrid-admin.cfg", etc / "icegrid-admin.cfg", values)

    def command(self) -> list[str]:
        """The argv."""
        return ["icegridregistry", f"--Ice.Config={self.root.path / 'etc/icegrid-registry.cfg'}"]

    def probe(self) -> str:
        """The registry answers icegridadmin."""
        return f"icegridadmin: {icegridadmin(self, 'registry list').strip()}"


class IceGridNode(Part):
    """The node: starts the servers of OMERO, restarts them, and stops them at its end."""

    name = "icegrid-node"
    needs = ("icegrid-registry",)
    listens = False
    owns_children = True  # the servers of a killed node continue, and a new node would start each again
    programs = ("icegridnode",)
    timeout_seconds = 30.0

    def prepare(self) -> None:
        """Write the configuration and the password file of the servers."""
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
        """The argv."""
        return ["icegridnode", f"--Ice.Config={self.root.path / 'etc/icegrid-node.cfg'}"]

    def environment(self) -> dict[str, str]:
        """Also the environment of the servers: the path of our `runProcessor`, and the database."""
        passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        run_log = {"SQLALCHEMY_URL": Postgres(self.root).url()} if "postgres" in self.root.requested_parts() else {}
        return {
            "PYTHON": sys.executable,
            "PYTHONPATH": f"{NODE_MODULES}:{CHECKOUT}",
            "PYTHONUNBUFFERED": "1",
            "OMERO_STARTUP_WAIT": "0",  # otherwise the servers of omero-py wait for ten seconds
            "OMERO_ROOT_PASSWORD_FILE": str(self.root.path / "etc/omero-root-password"),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "OMERO_HOST": "127.0.0.1",
            "OMERO_PORT": str(ssl_port(self.root)),
            **run_log,
            **passed_on,
            "BIOMERO_CONFIG": str(config_path(self.root.path)),
        }

    def probe(self) -> str:
        """The registry can reach the node."""
        if "is up" not in icegridadmin(self, "node ping master"):
            raise Unhealthy("the registry cannot reach the node")
        return "icegridadmin: node is up"


class GridServer(Provision):
    """A server of the application; the node starts and restarts it."""

    needs: tuple[str, ...] = ("icegrid-node",)
    server: str
    #: Its name in IceGrid.
    adapter: str
    timeout_seconds = 60.0
    #: Seconds that it must run after its activation: the servers of omero-py are active before their start is complete.
    trial_seconds = 0.5

    @property
    def log(self) -> Path:
        """The log of the server if it writes one, as those of omero-py do, otherwise its output."""
        own = self.root.path / "log" / f"{self.server}.log"
        return own if own.exists() else own.with_suffix(".out")

    def _state(self) -> str:
        return icegridadmin(self, f"server state {self.server}").strip()

    def pid(self) -> int | None:
        """The process ID from the node; None if it does not run."""
        try:
            found = re.search(r"pid = (\d+)", self._state())
        except Unhealthy:
            return None
        return int(found[1]) if found else None

    def create(self) -> None:
        """Add the application to the registry, or update it, and wait until the server is active."""
        known = APPLICATION in icegridadmin(self, "application list").split()
        icegridadmin(self, f"application {'update' if known else 'add'} '{self._descriptor()}'", timeout=60)
        self._failures = 0
        self.wait(self._activate)
        time.sleep(self.trial_seconds)
        self.wait(self._activate)

    def _activate(self) -> None:
        """Start the server if it is inactive: the node tries only once, and late."""
        if self._state().startswith("inactive"):
            if self._failures == MAX_STARTS:
                raise PartError(
                    self.name, f"the server ended right after its start, {MAX_STARTS} times", self.log, lines=30
                )
            self._failures += 1
            icegridadmin(self, f"server enable {self.server}")
            icegridadmin(self, f"server start {self.server}", timeout=self.timeout_seconds)
        self.probe()

    def _descriptor(self) -> Path:
        """Write the descriptor of the application; servers that were not requested are defined but not started."""
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
        """The node reports the server as active, and the server answers."""
        state = self._state()
        if not state.startswith("active"):
            raise Unhealthy(f"{self.server} is {state}")
        endpoints = icegridadmin(self, f"adapter endpoints {self.adapter}")
        if (found := re.search(r"tcp .*?-p (\d+)", endpoints)) is None:
            raise Unhealthy(f"{self.adapter} is not active")
        check_ice_greeting(int(found[1]))
        return f"{self.server} active, Ice on {found[1]}"


class Blitz(GridServer):
    """The stand-in for OMERO.blitz."""

    name = "blitz"
    server = "Blitz-0"
    adapter = "BlitzAdapter"
    trial_seconds = 0.0


class Tables(GridServer):
    """OMERO's real Tables server."""

    name = "tables"
    needs = ("icegrid-node", "blitz")
    server = "Tables-0"
    adapter = "Tables-0.TablesAdapter"


class Processor(GridServer):
    """The Processor of biomeroworker."""

    name = "processor"
    needs = ("icegrid-node", "blitz")
    server = "Processor-0"
    adapter = "Processor-0.ProcessorAdapter"


class Glacier2(Part):
    """The router: ``ssl`` for clients, ``tcp`` for unencrypted connections on request."""

    name = "glacier2"
    needs = ("icegrid-registry", "blitz")
    programs = ("glacier2router", "openssl")

    def prepare(self) -> None:
        """Create a certificate once, which clients do not verify, and write the configuration."""
        certificates = self.root.folder("etc/glacier2", 0o700)
        if not (certificates / "server.pem").exists():
            subject = ["-subj", "/CN=localhost", "-days", "3650"]
            files = ["-keyout", str(certificates / "server.key"), "-out", str(certificates / "server.pem")]
            self.must_run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, *files], timeout=30)
        values = {
            "registry": self.root.port("icegrid-registry"),
            "certificates": certificates,
            "ssl": ssl_port(self.root),
            "tcp": self.root.port("glacier2-tcp"),
        }
        self.write("glacier2.cfg", self.root.folder("etc") / "glacier2.cfg", values)

    def command(self) -> list[str]:
        """The argv."""
        return ["glacier2router", f"--Ice.Config={self.root.path / 'etc/glacier2.cfg'}"]

    def probe(self) -> str:
        """Both ports accept connections; the unencrypted one uses the Ice protocol."""
        tcp, ssl = self.root.port("glacier2-tcp"), ssl_port(self.root)
        check_ice_greeting(tcp)
        try:
            socket.create_connection(("127.0.0.1", ssl), timeout=5).close()
        except OSError as error:
            raise Unhealthy(f"port {ssl}: {error}") from error
        return f"Ice on {tcp}, SSL on {ssl}"
