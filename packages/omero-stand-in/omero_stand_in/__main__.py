"""``python -m omero_stand_in``: run the server in the foreground until SIGTERM or SIGINT.

Ice's own options (``--Ice.Config=...``) are taken from the command line, as IceGrid passes them. The data folder is
the property ``omero.data.dir`` or ``$OMERO_DATA_DIR``; root's password is read from ``$OMERO_ROOT_PASSWORD`` or from
the file that ``$OMERO_ROOT_PASSWORD_FILE`` names, never from the command line.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from .server import Server, initialize


def root_password() -> str | None:
    """The password in the environment; None if the password in the data folder applies."""
    if given := os.environ.pop("OMERO_ROOT_PASSWORD", None):
        return given
    if named := os.environ.get("OMERO_ROOT_PASSWORD_FILE"):
        return Path(named).read_text().strip()
    return None


def main() -> int:
    """Run until a signal ends it."""
    logging.basicConfig(
        level=os.environ.get("OMERO_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)-7s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    communicator = initialize(sys.argv)
    folder = communicator.getProperties().getProperty("omero.data.dir") or os.environ.get("OMERO_DATA_DIR", "")
    if not folder:
        print("no data folder: set omero.data.dir or OMERO_DATA_DIR", file=sys.stderr)
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    # IceGrid stops a server by shutting its communicator down.
    threading.Thread(target=lambda: (communicator.waitForShutdown(), stopped.set()), daemon=True).start()
    try:
        server = Server(communicator, Path(folder), root_password())
        server.start()
        logging.info("answering at %s", server.adapter.getEndpoints() and server.adapter.getEndpoints()[0])
        while not stopped.wait(1):
            pass
        server.stop()
    finally:
        communicator.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
