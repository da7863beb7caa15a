"""A script that returns the name of its user, and a function that runs it."""

import time

import omero.clients
from omero.rtypes import rint

SCRIPT = """
import omero.scripts as scripts
from omero.rtypes import rstring
client = scripts.client("Who", "returns the name of the user", scripts.String("Message").out())
client.setOutput("Message", rstring(client.sf.getAdminService().getEventContext().userName))
client.closeSession()
"""


def run_script(session, script, seconds=40):
    """The output of the script, as soon as a Processor serves it."""
    end = time.monotonic() + seconds
    while True:
        try:
            process = session.sf.getScriptService().runScript(script, {}, rint(3))
            break
        except omero.ServerError:
            assert time.monotonic() < end, "no Processor serves the script"
            time.sleep(0.5)
    process.wait()
    answer = process.getResults(0)["Message"].val
    process.close(False)
    return answer
