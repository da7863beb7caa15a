"""The server process that IceGrid starts as Processor-0."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import Ice
import omero
import omero.clients
import omero.util

from biomeroworker.node.processor import Processor, new_identity

log = logging.getLogger(__name__)

#: Delay between two attempts to reach OMERO.server while it starts.
RETRY_SECONDS = 2.0
#: Each such number of failed attempts is logged once.
_ATTEMPTS_PER_LOG_LINE = 15
ADAPTER = "ProcessorAdapter"
#: A fixed port of the Processor, for a firewall or container that opens only this port; and the host name at which
#: OMERO.server reaches it, if that is not this host's own address.
PORT_VARIABLE = "OMERO_PROCESSOR_PORT"
HOST_VARIABLE = "OMERO_WORKER_PUBLISHED_HOST"
#: "1": write the log to stderr, too, which becomes the log of the container.
LOG_VARIABLE = "BIOMEROWORKER_LOG_TO_STDERR"


def endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """Ice properties of the Processor's adapter: where it listens, and the address that the grid gives to OMERO.server.

    Empty without a fixed port: the grid's own descriptor then lets the system choose one.
    """
    port = environment.get(PORT_VARIABLE)
    if not port:
        return {}
    found = {f"{ADAPTER}.Endpoints": f"tcp -p {int(port)}"}
    if host := environment.get(HOST_VARIABLE):
        found[f"{ADAPTER}.PublishedEndpoints"] = f'tcp -h "{host}" -p {int(port)}'
    return found


def make(ctx: Any) -> Processor:
    """Create the Processor as soon as OMERO.server answers: when a grid starts, Blitz needs longer than a Processor."""
    failures = 0
    while not ctx.stop_event.is_set():
        try:
            session = omero.util.internal_service_factory(
                ctx.communicator, retries=1, interval=0, stop_event=ctx.stop_event
            )
            session.destroy()
            break
        except Exception as error:  # all errors are retried
            failures += 1
            if failures % _ATTEMPTS_PER_LOG_LINE == 1:
                log.info("OMERO.server is not ready (%s); waiting", type(error).__name__)
            ctx.stop_event.wait(RETRY_SECONDS)
    return Processor(ctx)


class ProcessorServer(omero.util.Server):  # type: ignore[misc]  # omero-py has no types
    """omero-py's server without its fixed delay of ten seconds: `make` waits for OMERO.server."""

    def waitOnStartup(self) -> None:
        """Wait only if ``OMERO_STARTUP_WAIT`` is set."""
        if os.environ.get("OMERO_STARTUP_WAIT"):
            super().waitOnStartup()

    def run(self, args: list[str]) -> Any:
        """Set endpoints and identity, then serve.

        In a grid, the proxy refers to the adapter by name, so the identity of a server stays the same over restarts. It
        must differ from the server's id, which OMERO's templates give to another object, and from ``Processor``, the
        identity of a stock Processor on another node. Outside a grid, each start has a new identity.
        """
        properties = self.communicator().getProperties()
        for name, value in endpoints(os.environ).items():
            properties.setProperty(name, value)
        if os.environ.get(LOG_VARIABLE) == "1":  # before omero-py replaces sys.stderr
            logging.getLogger().addHandler(stderr_handler())
        server = properties.getProperty("Ice.Admin.ServerId") or properties.getProperty("Ice.ServerId")
        adapter = properties.getProperty(f"{self.adapter_name}.AdapterId")
        self.identity = Ice.Identity(f"biomeroworker-{server}", "") if server and adapter else new_identity("Processor")
        return super().run(args)


def stderr_handler() -> logging.Handler:
    """A handler that writes to stderr, each line with its time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def main(arguments: list[str]) -> int:
    """Serve until IceGrid or a signal stops the process."""
    server = ProcessorServer(make, ADAPTER, Ice.Identity("Processor", ""))
    return int(server.main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
