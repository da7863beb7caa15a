"""Processor-0 as IceGrid starts it."""

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

#: Seconds between two tries to reach OMERO.server while it starts.
RETRY = 2.0
ADAPTER = "ProcessorAdapter"
#: The Processor's own port, where a firewall or a container lets only that one through; and the host by which
#: OMERO.server reaches it, where that is not this host's own address.
PORT_VARIABLE = "OMERO_PROCESSOR_PORT"
HOST_VARIABLE = "OMERO_WORKER_PUBLISHED_HOST"
#: Whether the log goes to stderr too, besides its file: a container's log is what its processes print.
LOG_VARIABLE = "BIOMEROWORKER_LOG_TO_STDERR"


def endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """Properties of the Processor's adapter: where it listens, and the address that the grid gives to OMERO.server.

    Empty without a fixed port: the grid's own descriptor then holds, which lets the system choose one.
    """
    port = environment.get(PORT_VARIABLE)
    if not port:
        return {}
    found = {f"{ADAPTER}.Endpoints": f"tcp -p {int(port)}"}
    if host := environment.get(HOST_VARIABLE):
        found[f"{ADAPTER}.PublishedEndpoints"] = f'tcp -h "{host}" -p {int(port)}'
    return found


def make(ctx: Any) -> Processor:
    """The Processor, once the server is there: in a grid that starts, Blitz takes much longer than we do."""
    tries = 0
    while not ctx.stop_event.is_set():
        try:
            session = omero.util.internal_service_factory(
                ctx.communicator, retries=1, interval=0, stop_event=ctx.stop_event
            )
            session.destroy()
            break
        except Exception as error:  # whatever it is, the answer is to try again
            tries += 1
            if tries % 15 == 1:
                log.info("OMERO.server is not ready (%s); waiting", type(error).__name__)
            ctx.stop_event.wait(RETRY)
    return Processor(ctx)


class ProcessorServer(omero.util.Server):  # type: ignore[misc]  # omero-py has no types
    """omero-py's server, which waits for OMERO.server instead of waiting ten seconds whatever happens."""

    def waitOnStartup(self) -> None:
        """Only if somebody asks for it."""
        if os.environ.get("OMERO_STARTUP_WAIT"):
            super().waitOnStartup()

    def run(self, args: list[str]) -> Any:
        """Choose endpoints and identity, then serve.

        In a grid the proxy is indirect, by the adapter's name, so one identity for each server holds over restarts. It
        is not the server's id itself, which OMERO's templates give to an object of their own, nor ``Processor``, which
        another node's stock Processor has. Outside a grid there is no such name: each start has a new identity.
        """
        properties = self.communicator().getProperties()
        for name, value in endpoints(os.environ).items():
            properties.setProperty(name, value)
        if os.environ.get(LOG_VARIABLE) == "1":  # before omero-py puts a log in the place of sys.stderr
            logging.getLogger().addHandler(printed())
        server = properties.getProperty("Ice.Admin.ServerId") or properties.getProperty("Ice.ServerId")
        adapter = properties.getProperty(f"{self.adapter_name}.AdapterId")
        self.identity = Ice.Identity(f"biomeroworker-{server}", "") if server and adapter else new_identity("Processor")
        return super().run(args)


def printed() -> logging.Handler:
    """The log on stderr, each line with its time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def main(arguments: list[str]) -> int:
    """Serve until IceGrid, or a signal, says stop."""
    server = ProcessorServer(make, ADAPTER, Ice.Identity("Processor", ""))
    return int(server.main(arguments) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
