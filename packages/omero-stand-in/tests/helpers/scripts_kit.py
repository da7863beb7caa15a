"""What tests of scripts share: scripts, a processor for them, and the `omero` command as people run it."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import Ice
import omero
import omero.clients  # before other parts of omero
import omero.processor
import omero.util
import omero.util.concurrency
from omero.grid import ProcessorPrx

ECHO = """
import omero.scripts as scripts
from omero.rtypes import rstring

client = scripts.client(
    "Echo", "Gives back what it is given.",
    scripts.String("Word", optional=False), scripts.Long("Number", default=7, min=0, max=100),
)
print("Word =", client.getInput("Word", unwrap=True))
for key in client.getInputKeys():
    client.setOutput(key, client.getInput(key))
client.setOutput("Message", rstring("Count finished."))
client.closeSession()
"""
SLEEP = """
import time
import omero.scripts as scripts

client = scripts.client("Sleep", scripts.Int("Seconds", default=30))
time.sleep(client.getInput("Seconds", unwrap=True))
client.closeSession()
"""
#: The command refuses to run as root, which is what a container often is; this enters it one step later.
COMMAND = "import sys; sys.argv[0] = 'omero'; import omero.cli; sys.exit(omero.cli.argv())"


@contextlib.contextmanager
def connected(server, user="root", password=None):
    """A client with a session, closed at the end."""
    client = omero.client(server.host, server.port)
    try:
        client.createSession(user, password or server.root_password)
        yield client
    finally:
        client.closeSession()


@contextlib.contextmanager
def processor(server, folder: Path, accepts=()):
    """omero-py's own processor in root's session, behind the router; without ``accepts`` for official scripts."""
    with connected(server) as client:
        context = omero.util.ServerContext("test", client.ic, omero.util.concurrency.get_event(name="test"))
        context.session = client.sf  # else the check of each minute finds no session, and ends the scripts that run
        (folder / "ice.config").touch()
        identity = Ice.Identity(f"test-{uuid.uuid4()}", client.getCategory())
        servant = omero.processor.ProcessorI(
            context,
            use_session=client.sf,
            accepts_list=list(accepts),
            cfg=str(folder / "ice.config"),
            omero_home=omero.processor.path(str(folder)),
            category=identity.category,
        )
        context.add_servant(client.adapter, servant, ice_identity=identity)
        try:
            yield servant
        finally:
            client.sf.sharedResources().removeProcessor(ProcessorPrx.uncheckedCast(servant.prx))
            servant.cleanup()


def finished(process, seconds=60):
    """The exit code of a process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        code = process.poll()
        if code is not None:
            return code.val
        time.sleep(0.1)
    raise TimeoutError("the script still runs")


def omero_command(folder: Path, *words, seconds=120):
    """Run the `omero` command in a home of its own; returns the finished process."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "OMERO_USERDIR": str(folder / "omero"),
        "OMERODIR": str(folder),
        "OMERO_TMPDIR": str(folder / "tmp"),
        "PYTHONWARNINGS": "ignore",
    }
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
